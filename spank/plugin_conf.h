/* `plugin.conf`: the few configured values this plugin needs, compiled by `slurm_fsx_tools.config.snapshot`. */
#ifndef SLURM_FSX_PLUGIN_CONF_H
#define SLURM_FSX_PLUGIN_CONF_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* containers.prepare */
enum prepare { PREPARE_MOUNT, PREPARE_UNPACK, PREPARE_OFF };

struct plugin_conf {
	char fsx_root[PATH_MAX];
	char containers[PATH_MAX];
	char index[PATH_MAX];
	char policy[256];
	char state_dir[PATH_MAX]; /* containers.state_dir */
	char stage[PATH_MAX];     /* containers.stage; "" = none */
	enum prepare prepare;
	char nccl_profiles[2048]; /* names with blanks between them; "" = not known, or too many */
	bool reject_unknown; /* containers.unknown_name: reject */
	bool is_current;     /* compiled from the configuration as it stands now: the index may be believed */
};

/*
 * Reads `path`; `config` is the YAML that counts, and `owner` may own the file besides root. Where it is missing or not
 * to be believed, the defaults stand, and are current only if there is no YAML. Gives 0, or -errno of the reading.
 */
int plugin_conf_read(const char *path, const char *config, uid_t owner, struct plugin_conf *conf);

#endif
