#include "plugin_conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "name.h"
#include "trusted_file.h"

static const char header[] = "# slurm-fsx plugin 1\n";
enum { FILE_LIMIT = 64 * 1024, KEY_SIZE = 128 };

/* The same text as config_key() in slurm_fsx_tools/config/snapshot.py. */
static void describe(const char *config, char key[KEY_SIZE])
{
	struct stat st;

	if (stat(config, &st) < 0)
		snprintf(key, KEY_SIZE, "absent");
	else
		snprintf(key, KEY_SIZE, "%llu:%llu:%lld:%lld", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino, (long long)st.st_size,
			 (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
}

static void set_path(char target[PATH_MAX], const char *value)
{
	if (path_is_sane(value))
		memcpy(target, value, strlen(value) + 1);
}

int plugin_conf_read(const char *path, const char *config, uid_t owner, struct plugin_conf *conf)
{
	char key_now[KEY_SIZE];
	char *text = NULL, *line, *next;
	const char *its_config = "", *its_key = "absent";
	size_t size = 0;
	int rv;

	memset(conf, 0, sizeof(*conf));
	snprintf(conf->fsx_root, sizeof(conf->fsx_root), "/fsx");
	snprintf(conf->containers, sizeof(conf->containers), "/fsx/containers");
	snprintf(conf->index, sizeof(conf->index), "/fsx/containers/.slurm-fsx/index");
	snprintf(conf->policy, sizeof(conf->policy), "default");
	snprintf(conf->state_dir, sizeof(conf->state_dir), "/var/lib/slurm-fsx/containers");

	rv = trusted_file_read(path, owner, FILE_LIMIT, &text, &size);
	if (rv == 0 && strncmp(text, header, sizeof(header) - 1) != 0)
		rv = -EINVAL;
	if (rv < 0) {
		its_config = config;
		goto done;
	}
	for (line = text; line != NULL; line = next) {
		char *value;

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		value = strchr(line, '=');
		if (value == NULL || line[0] == '#')
			continue;
		*value++ = '\0';
		if (strcmp(line, "config") == 0)
			its_config = value;
		else if (strcmp(line, "config_key") == 0)
			its_key = value;
		else if (strcmp(line, "fsx_root") == 0)
			set_path(conf->fsx_root, value);
		else if (strcmp(line, "containers") == 0)
			set_path(conf->containers, value);
		else if (strcmp(line, "index") == 0)
			set_path(conf->index, value);
		else if (strcmp(line, "state_dir") == 0)
			set_path(conf->state_dir, value);
		else if (strcmp(line, "stage") == 0)
			set_path(conf->stage, value);
		else if (strcmp(line, "prepare") == 0)
			conf->prepare = strcmp(value, "off") == 0    ? PREPARE_OFF :
					strcmp(value, "unpack") == 0 ? PREPARE_UNPACK :
								       PREPARE_MOUNT;
		else if (strcmp(line, "unknown_name") == 0)
			conf->reject_unknown = strcmp(value, "reject") == 0;
		else if (strcmp(line, "nccl_profiles") == 0 && strlen(value) < sizeof(conf->nccl_profiles))
			memcpy(conf->nccl_profiles, value, strlen(value) + 1);
		else if (strcmp(line, "policy") == 0)
			snprintf(conf->policy, sizeof(conf->policy), "%s", value);
	}
done:
	describe(config, key_now);
	conf->is_current = strcmp(its_config, config) == 0 && strcmp(its_key, key_now) == 0;
	free(text);
	return rv;
}
