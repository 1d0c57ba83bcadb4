#include "runtime_bwrap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "name.h"

/* Top folders that are the node's, or fresh, never the image's. */
static const char *const not_of_image[] = {"/dev", "/proc", "/sys", "/tmp", "/run"};
/* A working folder in one of these is not brought in from the node: the image has its own. */
static const char *const of_image[] = {"/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/var", "/opt", "/boot"};

/* Names and addresses as the node knows them; without a passwd line, `whoami` and getpass fail. */
static const char *const of_node[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group"};

enum { MAX_DEPTH = 16 };

static bool is_below_any(const char *path, const char *const *folders, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (path_is_below(path, folders[i]))
			return true;
	return false;
}
#define IS_BELOW_ANY(path, folders) is_below_any(path, folders, sizeof(folders) / sizeof((folders)[0]))

/* Adds up to three words; NULL ends them early. */
static void add(struct words *words, const char *option, const char *first, const char *second)
{
	words_add(words, option);
	if (first != NULL)
		words_add(words, first);
	if (second != NULL)
		words_add(words, second);
}

/* What is mounted over the image, in order. */
static void add_mounts(const struct container *container, struct words *words)
{
	const char *folder = container->work_folder;

	for (size_t i = 0; i < sizeof(of_node) / sizeof(of_node[0]); i++)
		add(words, "--ro-bind-try", of_node[i], of_node[i]);
	if (container->home != NULL && strcmp(container->home, "/") != 0 && !IS_BELOW_ANY(container->home, of_image))
		add(words, "--bind-try", container->home, container->home);
	add(words, "--bind-try", container->fsx_root, container->fsx_root);
	if (strcmp(folder, "/") != 0 && strcmp(folder, "/tmp") != 0 && !path_is_below(folder, container->fsx_root) &&
	    !IS_BELOW_ANY(folder, of_image) && !(IS_BELOW_ANY(folder, not_of_image) && !path_is_below(folder, "/tmp")))
		add(words, "--bind-try", folder, folder);
	if (container->script != NULL)
		add(words, "--ro-bind", container->script, container->script);
	if (container->pmix != NULL)
		add(words, "--bind-try", container->pmix, container->pmix);
	for (size_t i = 0; i < container->mounts->count; i++)
		add(words, container->mounts->items[i].read_only ? "--ro-bind" : "--bind",
		    container->mounts->items[i].source, container->mounts->items[i].target);
}

static bool image_holds(int root, const char *path)
{
	int fd = image_open(root, path, O_PATH);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Whether a mount point that the image lacks is to be made below `folder`. `mounts` holds OPTION SOURCE TARGET. */
static bool needs_room(const char *folder, int root, const struct words *mounts)
{
	for (size_t i = 2; i < mounts->count; i += 3) {
		const char *target = mounts->items[i];

		if (path_is_below(target, folder) && strcmp(target, folder) != 0 && !image_holds(root, target))
			return true;
	}
	return false;
}

/*
 * Brings in what the image has in `folder`. A folder that needs room for a mount point is made anew and filled piece by
 * piece: the image is read-only, so nothing can be made inside of it.
 */
static int add_image(const struct container *container, int root, const char *folder, int depth,
		     const struct words *mounts, struct words *words)
{
	char path[PATH_MAX], source[PATH_MAX], link[PATH_MAX];
	struct dirent *entry;
	DIR *listing;
	int rv = 0;
	int fd = image_open(root, folder, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	listing = fdopendir(fd);
	if (listing == NULL) {
		rv = -errno;
		close(fd);
		return rv;
	}
	while (rv == 0 && (entry = readdir(listing)) != NULL) {
		struct stat st;
		ssize_t length;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path) ||
		    snprintf(source, sizeof(source), "%s%s", container->root, path) >= (int)sizeof(source) ||
		    IS_BELOW_ANY(path, not_of_image) || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISLNK(st.st_mode)) {
			length = readlinkat(fd, entry->d_name, link, sizeof(link) - 1);
			if (length <= 0)
				continue;
			link[length] = '\0';
			add(words, "--symlink", link, path);
		} else if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH && needs_room(path, root, mounts)) {
			add(words, "--dir", path, NULL);
			rv = add_image(container, root, path, depth + 1, mounts, words);
		} else {
			add(words, "--ro-bind", source, path);
		}
	}
	closedir(listing);
	return rv;
}

int bwrap_words(const struct container *container, const char *bwrap, int root, struct words *words)
{
	struct words mounts = {0};
	const char *folder = container->work_folder;
	int rv;

	add_mounts(container, &mounts);
	words_add(words, bwrap);
	rv = add_image(container, root, "", 0, &mounts, words);
	if (rv < 0)
		goto done;
	/* A new /proc needs a new process namespace, and then Slurm and MPI would not see their processes. */
	add(words, "--bind", "/proc", "/proc");
	add(words, "--dev-bind", "/dev", "/dev");
	add(words, "--ro-bind", "/sys", "/sys");
	add(words, "--perms", "1777", NULL);
	add(words, "--tmpfs", "/tmp", NULL);
	add(words, "--tmpfs", "/run", NULL);
	for (size_t i = 0; i < mounts.count; i++)
		words_add(words, mounts.items[i]);
	/* A folder that is nowhere inside would end bwrap: such a task starts at the root. */
	if (IS_BELOW_ANY(folder, of_image) && !image_holds(root, folder))
		folder = "/";
	add(words, "--chdir", folder, NULL);
	rv = words->failed || mounts.failed ? -ENOMEM : 0;
done:
	words_free(&mounts);
	return rv;
}
