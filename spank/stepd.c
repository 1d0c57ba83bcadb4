#include "stepd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"
#include "mountinfo.h"
#include "name.h"
#include "options.h"
#include "squashfs.h"
#include "squashfs_mount.h"
#include "step.h"
#include "step_container.h"
#include "step_root.h"
#include "submit.h"

enum { LOOK_TIMEOUT_MS = 2000 };

struct step step;

static const char *get_variable(void *owner, const char *name)
{
	size_t length = strlen(name);
	char **variables = NULL;

	if (spank_get_item(owner, S_JOB_ENV, &variables) != ESPANK_SUCCESS || variables == NULL)
		return NULL;
	for (; *variables != NULL; variables++)
		if (strncmp(*variables, name, length) == 0 && (*variables)[length] == '=')
			return *variables + length + 1;
	return NULL;
}

static int set_variable(void *owner, const char *name, const char *value)
{
	return spank_setenv(owner, name, value, 1) == ESPANK_SUCCESS ? 0 : -EINVAL;
}

static int unset_variable(void *owner, const char *name)
{
	return spank_unsetenv(owner, name) == ESPANK_SUCCESS ? 0 : -EINVAL;
}

struct environment step_environment(spank_t spank)
{
	return (struct environment){spank, get_variable, set_variable, unset_variable};
}

static char *copy_of(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

int step_user(spank_t spank, struct user *user)
{
	gid_t *groups = NULL;
	int count = 0;

	if (spank_get_item(spank, S_JOB_UID, &user->uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &user->gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &count) != ESPANK_SUCCESS)
		return -1;
	user->groups = groups;
	user->group_count = (size_t)count;
	return 0;
}

void step_fail(const char *what, const char *detail, const char *next)
{
	snprintf(step.failure, sizeof(step.failure), "%s%s%s; %s", what, detail[0] != '\0' ? ": " : "", detail, next);
}

void step_fail_at_image(int error)
{
	const char *next = error == ENOENT    ? "submit again to get the image of today, or see: slurm-fsx containers list" :
			   error == EACCES    ? "ask its owner, or your admin" :
			   error == ETIMEDOUT ? "tell your admin, and submit again" :
						"see: slurm-fsx containers list";
	char what[PATH_MAX + 64];

	snprintf(what, sizeof(what), "the container image %s cannot be used", step.image);
	step_fail(what, squashfs_trouble(error), next);
}

/* A step's start. */

static void read_operations(void)
{
	char path[PATH_MAX + 32];
	int rv;

	snprintf(path, sizeof(path), "%s/jobs/%u.env", options.run_dir, step.job);
	rv = env_file_read(path, 0, &step.operations);
	if (rv < 0 && rv != -ENOENT)
		slurm_error("slurm-fsx: %s is not applied: %s", path,
			    rv == -EPERM ? "it is not root's alone" :
			    rv == -EINVAL ? "it does not start as such a file does" : strerror(-rv));
}

void stepd_start_step(spank_t spank)
{
	char conf_path[PATH_MAX + 16];
	const char *image, *nccl;
	void *shared;

	/* The second line of plugstack.conf comes here too. */
	if (step.started)
		return;
	step.started = true;
	if (spank_get_item(spank, S_JOB_ID, &step.job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_STEPID, &step.step) != ESPANK_SUCCESS) {
		slurm_error("slurm-fsx: Slurm does not tell the job's id; its environment stays as it is");
		return;
	}
	shared = mmap(NULL, sizeof(struct progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	step.progress = shared != MAP_FAILED ? shared : NULL;
	if (stat("/", &step.node_root) < 0)
		memset(&step.node_root, 0, sizeof(step.node_root));
	step.nccl_version = copy_of(get_variable(spank, "NCCL_VERSION"));
	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	plugin_conf_read(conf_path, options.config, 0, &step.conf);
	nccl = get_variable(spank, NCCL_VARIABLE);
	step.nccl_is_off = nccl != NULL && strcmp(nccl, "off") == 0;
	read_operations();

	image = get_variable(spank, IMAGE_VARIABLE);
	if (image != NULL && path_is_sane(image)) {
		step.image = strdup(image);
		/*
		 * Slurm takes plugins' options from the step's environment after every slurm_spank_init: this is Pyxis's
		 * own option, in any version and order. An image that the user gave is there already, and stays.
		 */
		if (options.runtime == RUNTIME_PYXIS)
			spank_setenv(spank, "_SLURM_SPANK_OPTION_pyxis_container_image", image, 0);
	}
	step_root_prepare(spank);
}

/* A task's start. */

/* What env_file_apply() asks about `library` operations. */
struct library_place {
	const struct environment *environment;
	int root;      /* the image's root, -1 = "/" */
	bool has_nccl; /* the image's environment says so; once `known`, its folders have been asked too */
	bool known;
	char *mounts; /* /proc/self/mountinfo; NULL = everything that is bound in is ours */
};

static bool folders_can_be_seen(const struct library_place *place, const char *list)
{
	char folder[PATH_MAX];

	while (*list != '\0') {
		size_t length = strcspn(list, ":");

		if (length >= sizeof(folder))
			return false;
		memcpy(folder, list, length);
		folder[length] = '\0';
		/* Folders outside of the shared file system are the image's business, and harmless where missing. */
		if (path_is_below(folder, step.conf.fsx_root) && place->root < 0 &&
		    (place->mounts == NULL || !mountinfo_covers(place->mounts, folder)))
			return false;
		list += length;
		list += *list == ':';
	}
	return true;
}

static bool takes_library(void *owner, const char *value)
{
	struct library_place *place = owner;
	const struct environment *environment = place->environment;

	if (!place->known) {
		place->known = true;
		if (!place->has_nccl) {
			int root = place->root >= 0 ? place->root : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

			place->has_nccl = image_has_nccl(root, environment->get(environment->owner, "LD_LIBRARY_PATH"),
							 step.conf.fsx_root);
			if (place->root < 0 && root >= 0)
				close(root);
		}
		if (!place->has_nccl && place->root < 0)
			mountinfo_read(&place->mounts);
	}
	return !place->has_nccl && folders_can_be_seen(place, value);
}

void step_apply_operations(const struct environment *environment, bool in_container, int root)
{
	const char *version = environment->get(environment->owner, "NCCL_VERSION");
	struct library_place library = {
		.environment = environment,
		.root = root,
		/* Only the image can have brought a version that was not there before; an operation might, further on. */
		.has_nccl = version != NULL && (step.nccl_version == NULL || strcmp(version, step.nccl_version) != 0),
	};
	struct env_place place = {.in_container = in_container, .owner = &library, .takes_library = takes_library,
				  .shared_root = step.conf.fsx_root};
	int failures;

	if (step.nccl_is_off)
		failures = env_file_undo(&step.operations, environment, step.conf.fsx_root);
	else
		failures = env_file_apply(&step.operations, environment, &place);
	if (failures > 0)
		slurm_error("slurm-fsx: %d variables of %s/jobs/%u.env could not be set", failures, options.run_dir, step.job);
	free(library.mounts);
}

/* Whether another plugin has moved us: a container's root is another directory than slurmstepd's. */
static bool is_in_container(void)
{
	struct stat root;

	return stat("/", &root) == 0 &&
	       (root.st_dev != step.node_root.st_dev || root.st_ino != step.node_root.st_ino);
}

void stepd_start_task(spank_t spank)
{
	struct environment environment = step_environment(spank);

	if (!step.started)
		return;
	if (step.progress != NULL)
		atomic_store(&step.progress->a_task_started, true);
	if (step.wants_container)
		step_container_start(spank, &environment);
	else
		step_apply_operations(&environment, is_in_container(), -1);
}

/* A task's and the step's end. */

void stepd_end_task(spank_t spank)
{
	struct user user = {0};
	int status = 0, image;

	/*
	 * Only where Pyxis stopped the task before it came to us, with an image that we chose: then, and never on the
	 * way of a task that starts, the image is looked at, by a child that may hang in our place.
	 */
	if (options.runtime != RUNTIME_PYXIS || step.image == NULL || step.progress == NULL ||
	    atomic_load(&step.progress->a_task_started) ||
	    spank_get_item(spank, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS || status == 0 ||
	    atomic_exchange(&step.progress->explained, true))
		return;
	if (step_user(spank, &user) < 0)
		return;
	image = squashfs_open(&user, step.image, LOOK_TIMEOUT_MS);
	if (image >= 0) {
		close(image);
		return;
	}
	step_fail_at_image(-image);
	slurm_spank_log("slurm-fsx: %s", step.failure);
}

void stepd_end_step(void)
{
	if (step.mount_point[0] != '\0')
		squashfs_unmount(step.mount_point);
	if (step.progress != NULL)
		munmap(step.progress, sizeof(*step.progress));
	env_file_free(&step.operations);
	container_mounts_free(&step.mounts);
	free(step.nccl_version);
	free(step.image);
	memset(&step, 0, sizeof(step));
}
