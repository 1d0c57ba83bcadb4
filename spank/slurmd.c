#include "slurmd.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "squashfs_mount.h"

void slurmd_clean_up(spank_t spank)
{
	char folder[PATH_MAX + 16], prefix[16], point[sizeof(folder) + NAME_MAX + 2];
	struct dirent *entry;
	uint32_t job = 0;
	DIR *mounts;

	snprintf(folder, sizeof(folder), "%s/mounts", options.run_dir);
	mounts = opendir(folder);
	if (mounts == NULL)
		return;
	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS)
		goto done;
	snprintf(prefix, sizeof(prefix), "%u.", job);
	while ((entry = readdir(mounts)) != NULL) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(point, sizeof(point), "%s/%s", folder, entry->d_name);
		squashfs_unmount(point);
		slurm_info("slurm-fsx: took away %s, which a step of job %u left behind", point, job);
	}
done:
	closedir(mounts);
}
