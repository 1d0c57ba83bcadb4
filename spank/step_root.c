#include "step_root.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/slurm.h>

#include "catalogue.h"
#include "enroot.h"
#include "lookup.h"
#include "miss.h"
#include "name.h"
#include "options.h"
#include "prepare.h"
#include "step.h"

extern char **environ;

enum {
	LOCK_TIMEOUT_MS = 480 * 1000, /* srun waits for 10 minutes for a step's start */
	UNPACK_TIMEOUT_MS = 450 * 1000,
	MARK_TIMEOUT_MS = 2000,
};

/* The option, else the variable that Pyxis reads from 0.21 on. */
static const char *requested(const struct environment *environment, const char *option, const char *variable)
{
	const char *value = environment->get(environment->owner, option);

	if (value == NULL || value[0] == '\0')
		value = environment->get(environment->owner, variable);
	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* A container that is to be new, or to run already, is for Pyxis alone to judge. */
static bool is_for_pyxis_alone(const char *name)
{
	const char *flags = strchr(name, ':');

	return flags != NULL && (strcmp(flags, ":create") == 0 || strcmp(flags, ":exec") == 0);
}

static void tell(int rv, const char *name, const char *image, const char *why)
{
	switch (rv) {
	case PREPARED_BEFORE:
		slurm_debug("slurm-fsx: the container %s stands already", name);
		return;
	case PREPARED_MOUNTED:
		slurm_verbose("slurm-fsx: mounted %s as the container %s", image, name);
		return;
	case PREPARED_UNPACKED:
		slurm_info("slurm-fsx: unpacked %s as the container %s", image, name);
		return;
	case PREPARED_OLDER:
		slurm_info("slurm-fsx: the container %s is in use by another job, and stays as %s was then", name, image);
		return;
	case PREPARED_FOREIGN:
		slurm_verbose("slurm-fsx: the container %s was unpacked before, and is used as it is", name);
		return;
	default:
		slurm_error("slurm-fsx: the container %s is left to Pyxis: %s", name, why);
	}
}

static int prepare(spank_t spank, const struct user *user, const char *name_text, const char *image)
{
	char name[NAME_SIZE], container[NAME_SIZE + 32], program[PATH_MAX], why[2 * PATH_MAX] = "";
	char **variables = NULL;
	struct words environment = {0};
	int rv;
	struct preparation wish = {
		.user = user,
		.job = step.job,
		.container = container,
		.image = image,
		.state_dir = step.conf.state_dir,
		.run_dir = options.run_dir,
		.containers = step.conf.containers,
		.stage = step.conf.stage,
		.enroot = program,
		.enroot_environment = &environment,
		.keeps_writes = options.scope_is_global,
		.unpacks = step.conf.prepare == PREPARE_UNPACK,
		.lock_timeout_ms = LOCK_TIMEOUT_MS,
		.unpack_timeout_ms = UNPACK_TIMEOUT_MS,
	};

	if (is_for_pyxis_alone(name_text) || name_cut(name_text, name) < 0)
		return 0;
	if (enroot_find(getenv("PATH"), program) == NULL) {
		slurm_error("slurm-fsx: the container %s is left to Pyxis: enroot is not in slurmd's PATH", name);
		return 0;
	}
	if (options.scope_is_global)
		snprintf(container, sizeof(container), "pyxis_%s", name);
	else
		snprintf(container, sizeof(container), "pyxis_%u_%s", step.job, name);
	spank_get_item(spank, S_JOB_ENV, &variables);
	enroot_environment(environ, variables, &environment);
	rv = environment.failed ? -ENOMEM : root_prepare(&wish, why, sizeof(why));
	tell(rv, name, image, why);
	words_free(&environment);
	return rv;
}

static void mark_use(const struct environment *environment, const char *image)
{
	const char *cluster = environment->get(environment->owner, "SLURM_CLUSTER_NAME");

	if (catalogue_mark_use(step.conf.containers, image, cluster, step.job, MARK_TIMEOUT_MS) < 0)
		slurm_debug("slurm-fsx: no mark of the use of %s", image);
}

void step_root_prepare(spank_t spank)
{
	struct environment environment = step_environment(spank);
	char image_name[NAME_SIZE], path[PATH_MAX];
	const char *name, *image;
	struct user user = {0};

	if (options.runtime != RUNTIME_PYXIS || step.step == SLURM_EXTERN_CONT)
		return;
	image = requested(&environment, "_SLURM_SPANK_OPTION_pyxis_container_image", "PYXIS_CONTAINER_IMAGE");
	name = requested(&environment, "_SLURM_SPANK_OPTION_pyxis_container_name", "PYXIS_CONTAINER_NAME");
	if (image == NULL) {
		if (name != NULL && !is_for_pyxis_alone(name))
			miss_count(options.run_dir);
		return;
	}
	if (step_user(spank, &user) < 0)
		return;
	if (path_is_sane(image)) {
		/* A file system that gave no answer is not asked again. */
		if (name != NULL && step.conf.prepare != PREPARE_OFF && prepare(spank, &user, name, image) == -ETIMEDOUT)
			return;
		mark_use(&environment, image);
	} else if (image[0] != '.') {
		/* Pyxis's importer answers: from the catalogue, or from the user's cache. */
		int rv = name_of_image(image, image_name);

		if (rv == 0)
			rv = lookup_by_index(&step.conf, image_name, path, sizeof(path));
		if (rv == 0)
			mark_use(&environment, path);
		else if (rv != -ETIMEDOUT &&
			 catalogue_make_cache(step.conf.containers, user.uid, user.gid, MARK_TIMEOUT_MS) < 0)
			slurm_debug("slurm-fsx: no cache folder for user %u", user.uid);
	}
}
