#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image.h"
#include "mountinfo.h"
#include "name.h"
#include "options.h"
#include "squashfs.h"

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
