#include "options.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "name.h"

struct options options = {
	.runtime = RUNTIME_PYXIS,
	.config = "/etc/slurm-fsx/config.yaml",
	.run_dir = "/run/slurm-fsx",
	.command = "/opt/slurm-fsx/bin/slurm-fsx",
};
struct user_options user_options;

static int line;

static bool read_line(const char *value)
{
	if (strcmp(value, "before") == 0)
		line = LINE_BEFORE;
	else if (strcmp(value, "after") == 0)
		line = LINE_AFTER;
	else
		return false;
	return true;
}

static bool read_runtime(const char *value)
{
	static const char *const names[] = {"pyxis", "enroot", "bwrap"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(value, names[i]) == 0) {
			options.runtime = (enum runtime)i;
			return true;
		}
	return false;
}

static bool read_scope(const char *value)
{
	options.scope_is_global = strcmp(value, "global") == 0;
	return options.scope_is_global || strcmp(value, "job") == 0;
}

static bool read_path(char target[PATH_MAX], const char *value)
{
	if (!path_is_sane(value))
		return false;
	memcpy(target, value, strlen(value) + 1);
	return true;
}

static bool read_config(const char *value)
{
	return read_path(options.config, value);
}

static bool read_run_dir(const char *value)
{
	return read_path(options.run_dir, value);
}

static bool read_command(const char *value)
{
	return read_path(options.command, value);
}

static const struct {
	const char *name;
	const char *takes;
	bool (*read)(const char *value);
} settings[] = {
	{"line", "before or after", read_line},
	{"runtime", "pyxis, enroot or bwrap", read_runtime},
	{"container_scope", "job or global, as on Pyxis's line", read_scope},
	{"config", "an absolute path", read_config},
	{"run_dir", "an absolute path", read_run_dir},
	{"command", "an absolute path", read_command},
};
enum { SETTING_COUNT = sizeof(settings) / sizeof(settings[0]) };

int options_read(int ac, char **av, bool report)
{
	line = LINE_BEFORE | LINE_AFTER;
	for (int i = 0; i < ac; i++) {
		size_t length = strcspn(av[i], "="), j;

		for (j = 0; j < SETTING_COUNT; j++)
			if (strlen(settings[j].name) == length && strncmp(av[i], settings[j].name, length) == 0)
				break;
		if (j == SETTING_COUNT) {
			if (report)
				slurm_error("slurm-fsx: plugstack.conf: unknown option %s is ignored; known are line=, "
					    "runtime=, container_scope=, config=, run_dir= and command=", av[i]);
		} else if (av[i][length] != '=' || !settings[j].read(av[i] + length + 1)) {
			if (report)
				slurm_error("slurm-fsx: plugstack.conf: %s is ignored; %s= takes %s", av[i],
					    settings[j].name, settings[j].takes);
		}
	}
	return line;
}

/* Slurm may call twice with one value: the last one counts. */
static int keep(char **target, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return -1;
	free(*target);
	*target = copy;
	return 0;
}

static int take_nccl(int val, const char *value, int remote)
{
	(void)val;
	if (value == NULL || !nccl_value_is_valid(value)) {
		/* In the step nothing may fail: the value was checked at submission, so somebody plays. */
		if (!remote)
			slurm_error("slurm-fsx: --nccl takes off, the name of a profile, or the id of a version");
		return remote ? 0 : -1;
	}
	return keep(&user_options.nccl, value);
}

static int take_container(int val, const char *value, int remote)
{
	char **const targets[] = {&user_options.container_name, &user_options.container_image,
				  &user_options.container_mounts};

	if (value == NULL || value[0] == '\0') {
		if (!remote)
			slurm_error("slurm-fsx: --container-name, --container-image and --container-mounts need a value");
		return remote ? 0 : -1;
	}
	return keep(targets[val], value);
}

/* spank.h declares the texts writable, and Slurm writes to none of them. */
#define TEXT(text) ((char *)(text))

static struct spank_option nccl_option = {
	TEXT("nccl"), TEXT("off|PROFILE|VERSION"),
	TEXT("[slurm-fsx] which NCCL/EFA environment of this cluster the job gets; off: none"), 1, 0, take_nccl,
};

static struct spank_option container_options[] = {
	{TEXT("container-name"), TEXT("NAME"),
	 TEXT("[slurm-fsx] run the tasks in the image that NAME means in the catalogue"), 1, 0, take_container},
	{TEXT("container-image"), TEXT("PATH"),
	 TEXT("[slurm-fsx] run the tasks in this .sqsh image"), 1, 1, take_container},
	{TEXT("container-mounts"), TEXT("SRC:DST[:ro][,SRC:DST...]"),
	 TEXT("[slurm-fsx] bring folders or files of the node into the container"), 1, 2, take_container},
};

static void register_one(spank_t spank, struct spank_option *option)
{
	if (spank_option_register(spank, option) != ESPANK_SUCCESS)
		slurm_error("slurm-fsx: Slurm does not take the option --%s; jobs run without it", option->name);
}

void options_register(spank_t spank)
{
	register_one(spank, &nccl_option);
	/* Pyxis has these itself: Slurm would disable the ones registered later, ours or Pyxis's. */
	if (options.runtime == RUNTIME_PYXIS)
		return;
	for (size_t i = 0; i < sizeof(container_options) / sizeof(container_options[0]); i++)
		register_one(spank, &container_options[i]);
}

void options_free(void)
{
	free(user_options.nccl);
	free(user_options.container_name);
	free(user_options.container_image);
	free(user_options.container_mounts);
	user_options = (struct user_options){0};
}
