#include "stepd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "name.h"
#include "options.h"
#include "squashfs_mount.h"
#include "step.h"
#include "step_container.h"
#include "step_root.h"
#include "submit.h"

enum { LOOK_TIMEOUT_MS = 2000 };

/* A step's start. */

static char *copy_of(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

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
	struct environment environment = step_environment(spank);
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
	step.nccl_version = copy_of(environment.get(spank, "NCCL_VERSION"));
	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	plugin_conf_read(conf_path, options.config, 0, &step.conf);
	nccl = environment.get(spank, NCCL_VARIABLE);
	step.nccl_is_off = nccl != NULL && strcmp(nccl, "off") == 0;
	read_operations();

	image = environment.get(spank, IMAGE_VARIABLE);
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
