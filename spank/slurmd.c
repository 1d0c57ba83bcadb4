#include "slurmd.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "plugin_conf.h"
#include "prepare.h"
#include "squashfs_mount.h"

static void complain(const char *container, int error)
{
	slurm_error("slurm-fsx: the container %s stays mounted: %s; try: slurm-fsx containers cleanup", container,
		    strerror(-error));
}

/* Before Pyxis's own epilog, which drains the node over a container that it cannot remove. */
static void release_roots(uint32_t job)
{
	char conf_path[PATH_MAX + 16];
	struct plugin_conf conf;
	int count;

	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	plugin_conf_read(conf_path, options.config, 0, &conf);
	count = roots_release(conf.state_dir, options.run_dir, job, complain);
	if (count > 0)
		slurm_info("slurm-fsx: took away the containers of job %u (%d)", job, count);
}

static void remove_mounts(uint32_t job)
{
	char folder[PATH_MAX + 16], prefix[16], point[sizeof(folder) + NAME_MAX + 2];
	struct dirent *entry;
	DIR *mounts;

	snprintf(folder, sizeof(folder), "%s/mounts", options.run_dir);
	mounts = opendir(folder);
	if (mounts == NULL)
		return;
	snprintf(prefix, sizeof(prefix), "%u.", job);
	while ((entry = readdir(mounts)) != NULL) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(point, sizeof(point), "%s/%s", folder, entry->d_name);
		squashfs_unmount(point);
		slurm_info("slurm-fsx: took away %s, which a step of job %u left behind", point, job);
	}
	closedir(mounts);
}

/*
 * As long as it is there, the job counts as running. Our epilog script removes it, too; where that never comes to it,
 * later ones and clean-up would keep for ever what this job has left.
 */
static void remove_environment(uint32_t job)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/jobs/%u.env", options.run_dir, job);
	if (unlink(path) < 0 && errno != ENOENT)
		slurm_error("slurm-fsx: cannot remove %s: %s", path, strerror(errno));
}

void slurmd_clean_up(spank_t spank)
{
	uint32_t job = 0;

	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS)
		return;
	remove_environment(job);
	release_roots(job);
	remove_mounts(job);
}
