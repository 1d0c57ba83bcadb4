#include "prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "enroot.h"
#include "local_copy.h"
#include "mountinfo.h"
#include "overlay.h"
#include "root.h"
#include "squashfs.h"
#include "squashfs_mount.h"

enum {
	OPEN_TIMEOUT_MS = 5000,
	ASK_TIMEOUT_MS = 5000,
	TARGET_TIMEOUT_MS = 5000,
	MOUNT_TIMEOUT_MS = 10000,
	RELEASE_LOCK_TIMEOUT_MS = 2000,
	RELEASE_TIMEOUT_MS = 8000, /* of all of a job's roots: the rest is for the next cleanup, not for this epilog */
	MOST_ROOTS_OF_JOB = 128,
};

struct work {
	const struct preparation *wish;
	struct root root;
	struct root_record record;
	bool has_record;
	char squashfuse[PATH_MAX];
	char data[PATH_MAX];
	int image;  /* the file, opened as the user */
	int target; /* the directory that Pyxis will look for */
	char *why;
	size_t size;
};

static int fail(struct work *work, int rv, const char *what)
{
	snprintf(work->why, work->size, "%s: %s", what, strerror(-rv));
	return rv;
}

/* Neither device numbers, which network file systems deal out anew at each mount, nor a checksum, which takes minutes. */
static void identify(int image, char *identity, size_t size)
{
	struct stat st;

	if (fstat(image, &st) < 0)
		memset(&st, 0, sizeof(st));
	snprintf(identity, size, "%llu:%lld:%lld", (unsigned long long)st.st_ino, (long long)st.st_size,
		 (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
}

static bool is_served(const struct root_record *record)
{
	return record->server_start != 0 && process_start(record->server) == record->server_start;
}

/* Takes the mounts away. 0, or -errno where the overlay is still there: then nothing else may be touched. */
static int unmount_all(const struct root *root, const struct root_record *record, const struct user *user)
{
	int rv = overlay_unmount(root, user, TARGET_TIMEOUT_MS);

	if (rv < 0)
		return rv;
	/* Lies in root's own folder, so no path of a user's is in it. */
	umount2(root->image, MNT_DETACH);
	process_end(record->server, record->server_start);
	return 0;
}

static int open_image(struct work *work)
{
	work->image = squashfs_open(work->wish->user, work->wish->image, OPEN_TIMEOUT_MS);
	if (work->image < 0)
		snprintf(work->why, work->size, "%s: %s", work->wish->image, squashfs_trouble(-work->image));
	return work->image < 0 ? work->image : 0;
}

/* What stands already. A value of enum prepared, -ENOENT where the root must be made, or another -errno. */
static int use_what_stands(struct work *work)
{
	const struct preparation *wish = work->wish;
	const struct root *root = &work->root;
	bool is_mounted = overlay_is_mounted(root), is_shared;
	char identity[sizeof(work->record.identity)];
	int rv;

	work->has_record = root_record_read(root, &work->record) == 0;
	if (is_mounted && work->has_record && is_served(&work->record) && root_has_job(root, wish->job))
		return PREPARED_BEFORE;
	rv = open_image(work);
	if (rv < 0)
		return rv;
	identify(work->image, identity, sizeof(identity));
	if (is_mounted && work->has_record && is_served(&work->record)) {
		bool is_current = strcmp(identity, work->record.identity) == 0;

		is_shared = root_is_shared(root, wish->job, wish->run_dir);
		if (is_shared || (is_current && wish->keeps_writes)) {
			rv = root_add_job(root, wish->job);
			return rv < 0 ? fail(work, rv, root->jobs) : is_current ? PREPARED_BEFORE : PREPARED_OLDER;
		}
	}
	/*
	 * The rest is made anew: nobody uses it, or its squashfuse has ended and it is of no use. What was written stays
	 * where it belongs to this image, and to this job or to any.
	 */
	rv = unmount_all(root, &work->record, wish->user);
	if (rv < 0)
		return fail(work, rv, "an unused mount cannot be taken away");
	if (!work->has_record || strcmp(identity, work->record.identity) != 0 ||
	    (!wish->keeps_writes && !(is_mounted && root_has_job(root, wish->job)))) {
		if (work->has_record)
			target_remove(wish->user, work->record.target, TARGET_TIMEOUT_MS);
		work->has_record = false;
		rv = root_discard(root);
		if (rv < 0)
			return fail(work, rv, root->folder);
	}
	return -ENOENT;
}

/*
 * enroot lists its containers by where a process's root lies in the file system that its data path is on, and fails where
 * that is the top: so does every later step of this user. (enroot 3.4 and 4.1, list -f; a mounted root is at the top.)
 */
static bool data_path_is_mount_point(const struct work *work)
{
	char folder[PATH_MAX], *text = NULL, *slash;
	bool is_point;

	memcpy(folder, work->record.target, sizeof(folder));
	slash = strrchr(folder, '/');
	if (slash == NULL || slash == folder || mountinfo_read(&text) < 0)
		return false;
	*slash = '\0';
	is_point = mountinfo_has_point(text, folder);
	free(text);
	return is_point;
}

static int find_target(struct work *work)
{
	const struct preparation *wish = work->wish;
	int rv = enroot_data_path(wish->user, wish->enroot, wish->enroot_environment, wish->run_dir, ASK_TIMEOUT_MS, work->data);

	if (rv < 0)
		return fail(work, rv, "enroot does not tell its ENROOT_DATA_PATH");
	work->target = target_open(wish->user, work->data, wish->container, TARGET_TIMEOUT_MS, work->record.target);
	if (work->target == -ENOTEMPTY)
		return PREPARED_FOREIGN;
	return work->target < 0 ? fail(work, work->target, work->data) : -ENOENT;
}

/* Mounts the image, from the node's copy if that does it. 0 or -errno. */
static int mount_image(struct work *work)
{
	const struct preparation *wish = work->wish;
	int copy = local_copy_open(wish->user, wish->containers, wish->stage, wish->image, work->image);
	int rv = -ENOENT;

	if (copy >= 0) {
		rv = squashfs_mount(wish->user, copy, work->squashfuse, work->root.image, true, MOUNT_TIMEOUT_MS,
				    &work->record.server);
		close(copy);
		if (rv < 0 && mkdir(work->root.image, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	if (rv < 0)
		rv = squashfs_mount(wish->user, work->image, work->squashfuse, work->root.image, true, MOUNT_TIMEOUT_MS,
				    &work->record.server);
	work->record.server_start = rv == 0 ? process_start(work->record.server) : 0;
	return rv;
}

/* Gives PREPARED_MOUNTED, -EOPNOTSUPP where this node cannot do it, or another -errno. */
static int mount_root(struct work *work)
{
	const struct preparation *wish = work->wish;
	struct root_record *record = &work->record;
	const struct root *root = &work->root;
	int rv;

	rv = root_make(root, wish->user->uid, wish->user->gid);
	if (rv < 0)
		return fail(work, rv, root->folder);
	record->uid = wish->user->uid;
	record->gid = wish->user->gid;
	record->keeps_writes = wish->keeps_writes;
	snprintf(record->image, sizeof(record->image), "%s", wish->image);
	identify(work->image, record->identity, sizeof(record->identity));
	record->server = 0;
	record->server_start = 0;
	/* Before there is anything to take away, so that a crash at any point leaves what the epilog can read. */
	rv = root_add_job(root, wish->job);
	if (rv == 0)
		rv = root_record_write(root, record);
	if (rv < 0)
		return fail(work, rv, root->folder);
	rv = mount_image(work);
	if (rv < 0)
		return fail(work, rv, "the image cannot be mounted");
	rv = root_record_write(root, record);
	if (rv < 0)
		return fail(work, rv, root->record);
	rv = overlay_mount(root, work->target);
	/* The overlay has its own hold on it; nobody who looks through the node's mounts must wait for a user's process. */
	if (rv == 0)
		umount2(root->image, MNT_DETACH);
	if (rv < 0)
		fail(work, rv, "no overlay can be mounted");
	if (rv == -ENODEV || rv == -EINVAL || rv == -EPERM || rv == -EOPNOTSUPP)
		return -EOPNOTSUPP;
	return rv < 0 ? rv : PREPARED_MOUNTED;
}

/* Under another name first: whoever finds the name finds a whole container. */
static int unpack_root(struct work *work)
{
	const struct preparation *wish = work->wish;
	char name[NAME_MAX + 1], from[2 * PATH_MAX], to[2 * PATH_MAX], said[256] = "";
	int rv;

	target_remove(wish->user, work->record.target, TARGET_TIMEOUT_MS);
	if (snprintf(name, sizeof(name), "%s.new", wish->container) >= (int)sizeof(name))
		return fail(work, -ENAMETOOLONG, wish->container);
	rv = enroot_create(wish->user, wish->enroot, wish->enroot_environment, name, wish->image, wish->unpack_timeout_ms,
			   said, sizeof(said));
	if (rv < 0) {
		snprintf(work->why, work->size, "enroot cannot unpack the image: %s", said[0] != '\0' ? said : strerror(-rv));
		return rv;
	}
	snprintf(from, sizeof(from), "%s/%s", work->data, name);
	snprintf(to, sizeof(to), "%s/%s", work->data, wish->container);
	rv = target_rename(wish->user, from, to, TARGET_TIMEOUT_MS);
	return rv < 0 ? fail(work, rv, to) : PREPARED_UNPACKED;
}

/* Nothing half-made stays. What a global container has written before does. */
static void undo(struct work *work, bool keeps_writes)
{
	const struct root *root = &work->root;

	if (unmount_all(root, &work->record, work->wish->user) < 0)
		return;
	if (work->record.target[0] != '\0')
		target_remove(work->wish->user, work->record.target, TARGET_TIMEOUT_MS);
	root_drop_job(root, work->wish->job);
	if (!keeps_writes)
		root_discard(root);
}

static int make(struct work *work)
{
	const struct preparation *wish = work->wish;
	/* What mount_root() makes of a record is not what was there. */
	bool keeps_writes = work->has_record && wish->keeps_writes;
	bool mounts = !wish->unpacks && squashfs_can_mount(work->squashfuse, sizeof(work->squashfuse)) != NULL;
	int rv;

	if (!work->has_record)
		memset(&work->record, 0, sizeof(work->record));
	rv = find_target(work);
	if (rv != -ENOENT)
		return rv;
	mounts = mounts && !data_path_is_mount_point(work);
	if (mounts && roots_of_job(wish->state_dir, wish->job) >= MOST_ROOTS_OF_JOB) {
		target_remove(wish->user, work->record.target, TARGET_TIMEOUT_MS);
		return fail(work, -EMFILE, "the job has too many containers on this node");
	}
	if (mounts) {
		rv = mount_root(work);
		if (rv < 0)
			undo(work, keeps_writes);
	}
	/* Its descriptor would keep the directory from going. */
	close(work->target);
	work->target = -1;
	if (!mounts || rv == -EOPNOTSUPP)
		rv = unpack_root(work);
	return rv;
}

int root_prepare(const struct preparation *wish, char *why, size_t size)
{
	struct work work = {.wish = wish, .image = -1, .target = -1, .why = why, .size = size};
	int lock = -1;
	int rv = root_name(wish->state_dir, wish->user->uid, wish->container, &work.root);

	why[0] = '\0';
	if (rv < 0)
		return fail(&work, rv, wish->container);
	rv = root_make_state(wish->state_dir);
	if (rv < 0)
		return fail(&work, rv, wish->state_dir);
	lock = root_lock(&work.root, wish->lock_timeout_ms);
	if (lock < 0)
		return fail(&work, lock, "another step or job prepares it all the while");
	rv = use_what_stands(&work);
	if (rv == -ENOENT)
		rv = make(&work);
	if (work.target >= 0)
		close(work.target);
	if (work.image >= 0)
		close(work.image);
	/* A root that was not mounted has no folder, and nobody would remove the lock's file. */
	root_unlock(&work.root, lock, access(work.root.folder, F_OK) < 0);
	return rv;
}

/* Takes one root away if the job was the last one to use it. 1 if so, 0 if not, -errno. */
static int release(const struct root *root, const char *run_dir, uint32_t job)
{
	struct root_record record;
	struct user user = {0};
	bool has_record, is_gone = false;
	int rv = 0;
	int lock = root_lock(root, RELEASE_LOCK_TIMEOUT_MS);

	if (lock < 0)
		return lock;
	if (!root_has_job(root, job) || root_is_shared(root, job, run_dir)) {
		root_drop_job(root, job);
		goto done;
	}
	has_record = root_record_read(root, &record) == 0;
	user.uid = record.uid;
	user.gid = record.gid;
	rv = unmount_all(root, &record, &user);
	if (rv < 0)
		goto done;
	if (has_record)
		target_remove(&user, record.target, TARGET_TIMEOUT_MS);
	root_drop_job(root, job);
	if (!has_record || !record.keeps_writes) {
		rv = root_discard(root);
		is_gone = rv == 0;
	}
	rv = rv < 0 ? rv : 1;
done:
	root_unlock(root, lock, is_gone);
	return rv;
}

int roots_release(const char *state_dir, const char *run_dir, uint32_t job,
		  void (*complain)(const char *container, int error))
{
	char roots[PATH_MAX];
	struct dirent *entry;
	struct root root;
	long long deadline = now_ms() + RELEASE_TIMEOUT_MS;
	int count = 0;
	DIR *listing;

	if (snprintf(roots, sizeof(roots), "%s/roots", state_dir) >= (int)sizeof(roots))
		return 0;
	listing = opendir(roots);
	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		char *end;
		unsigned long uid = strtoul(entry->d_name, &end, 10);
		int rv;

		if (*end != '.' || root_name(state_dir, (uid_t)uid, end + 1, &root) < 0 || !root_has_job(&root, job))
			continue;
		rv = now_ms() < deadline ? release(&root, run_dir, job) : -ETIMEDOUT;
		if (rv < 0)
			complain(end + 1, rv);
		count += rv > 0;
	}
	if (listing != NULL)
		closedir(listing);
	return count;
}
