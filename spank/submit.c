#include "submit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "child.h"
#include "lookup.h"
#include "name.h"
#include "options.h"
#include "plugin_conf.h"

enum {
	VERSION_TIMEOUT_MS = 2000,
	ASK_TIMEOUT_MS = 5000,
};

enum outcome { RESOLVED, UNKNOWN, UNCERTAIN };

/*
 * What the user asks for. Before slurm_spank_init_post_opt, Slurm has put every option that was given into the process
 * environment, #SBATCH lines included; inside salloc, those given to salloc are there too.
 */
static const char *request(const char *option, const char *variable)
{
	char name[128];
	const char *value;

	snprintf(name, sizeof(name), "_SLURM_SPANK_OPTION_%s_%s",
		 options.runtime == RUNTIME_PYXIS ? "pyxis" : "slurm_fsx", option);
	value = getenv(name);
	if (value == NULL || value[0] == '\0')
		value = getenv(variable);
	return value != NULL && value[0] != '\0' ? value : NULL;
}

static const char *partition(void)
{
	/* SPANK does not tell -p on the command line: what is known is the job around us, or the user's default. */
	static const char *const variables[] = {"SLURM_JOB_PARTITION", "SBATCH_PARTITION", "SALLOC_PARTITION",
						"SLURM_PARTITION"};

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *value = getenv(variables[i]);

		if (value != NULL && nccl_value_is_valid(value))
			return value;
	}
	return "";
}

static enum outcome resolve(const struct plugin_conf *conf, const char *name, char *path, size_t size)
{
	struct question question = {.command = options.command, .config = options.config, .name = name,
				    .partition = partition(), .timeout_ms = ASK_TIMEOUT_MS};
	int rv = lookup_by_index(conf, name, path, size);

	if (rv == 0)
		return RESOLVED;
	if (rv == -ETIMEDOUT) {
		slurm_error("slurm-fsx: %s gives no answer; the container name %s stays unresolved", conf->containers,
			    name);
		return UNCERTAIN;
	}
	switch (ask(&question, path, size)) {
	case ASK_FOUND:
		return RESOLVED;
	case ASK_UNKNOWN:
		return UNKNOWN;
	case ASK_TROUBLE:
		break;
	}
	slurm_error("slurm-fsx: the container name %s stays unresolved: %s; try: slurm-fsx containers resolve NAME", name, path);
	return UNCERTAIN;
}

static void refuse(void)
{
	slurm_error("slurm-fsx: refused, since this cluster starts no unknown container; see: slurm-fsx containers list");
	/* Slurm overlooks what an `optional` plugin returns, so returning an error would refuse nothing. */
	exit(EXIT_FAILURE);
}

/* Ends with 1 where a version of NCCL is not installed; `context` is its manifest. */
static int find_version(void *context, int out)
{
	out = child_keep_only(out);
	return out >= 0 && access(context, F_OK) < 0 && errno == ENOENT ? 1 : 0;
}

static bool is_in_list(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (*list != '\0') {
		size_t entry = strcspn(list, " ");

		if (entry == length && strncmp(list, word, length) == 0)
			return true;
		list += entry;
		list += *list == ' ';
	}
	return false;
}

/* Says what will come of a --nccl that nobody knows: the job runs with the default, so this is the only moment. */
static void check_nccl(const char *value)
{
	char conf_path[PATH_MAX + 16], manifest[PATH_MAX + 256], answer[8];
	struct child_answer version = {.buffer = answer, .room = sizeof(answer)};
	struct plugin_conf conf;

	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	/* Without a configuration that is current, what this host knows may be wrong: the prolog will say it. */
	if (plugin_conf_read(conf_path, options.config, 0, &conf) < 0 || !conf.is_current || conf.nccl_profiles[0] == '\0' ||
	    strcmp(value, "off") == 0 || is_in_list(conf.nccl_profiles, value))
		return;
	snprintf(manifest, sizeof(manifest), "%s/nccl/versions/%s/manifest.json", conf.fsx_root, value);
	if (child_run(NULL, find_version, manifest, VERSION_TIMEOUT_MS, &version) == 0 && version.exit_code == 1)
		slurm_error("slurm-fsx: --nccl=%s is no profile (off %s) and no version (see: slurm-fsx nccl list): "
			    "the job gets the default", value, conf.nccl_profiles);
}

/* Whether this is the word of the job around us: steps inherit its options, from sbatch and from salloc. */
static bool is_jobs_own(const char *value)
{
	const char *own = getenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurm_fsx_nccl");

	return own != NULL && strcmp(own, value) == 0;
}

static void pass_nccl_on(bool is_srun)
{
	/*
	 * A job's own --nccl reaches the prolog, which then writes other operations, or none. A step inside a job has only
	 * this variable; and it must not leak into the steps below it.
	 */
	unsetenv(NCCL_VARIABLE);
	if (user_options.nccl == NULL)
		return;
	if (!is_srun || getenv("SLURM_JOB_ID") == NULL) {
		check_nccl(user_options.nccl);
	} else if (strcmp(user_options.nccl, "off") == 0) {
		setenv(NCCL_VARIABLE, user_options.nccl, 1);
	} else if (!is_jobs_own(user_options.nccl)) {
		slurm_error("slurm-fsx: --nccl=%s is for a whole job: give it to sbatch, salloc or an srun of its own; this step "
			    "gets what its job has (--nccl=off works for a step, too)", user_options.nccl);
	}
}

/* The step gets the path in its environment, the prolog in its own: SPANK_SLURM_FSX_CONTAINER_IMAGE (slurm_fsx_tools/job.py). */
static int pass_image_on(spank_t spank, const char *path)
{
	spank_job_control_setenv(spank, IMAGE_VARIABLE, path, 1);
	return setenv(IMAGE_VARIABLE, path, 1);
}

static void resolve_container(spank_t spank)
{
	const char *name_text = request("container_name", "PYXIS_CONTAINER_NAME");
	const char *image = request("container_image", "PYXIS_CONTAINER_IMAGE");
	char name[NAME_SIZE], path[PATH_MAX], printable[64];
	struct plugin_conf conf;
	char conf_path[PATH_MAX + 16];

	/* An srun inside a job inherits what its surroundings asked for; it must not start a container by that. */
	unsetenv(IMAGE_VARIABLE);
	/* Without Pyxis, an image that is no path is a name too: nobody else here could make sense of it. */
	if (image != NULL && options.runtime != RUNTIME_PYXIS && strpbrk(image, "/:") == NULL) {
		name_text = image;
	} else if (image != NULL) {
		/* `sbatch --export=NONE` drops the option itself on 22.05; Pyxis's users know that, ours need not. */
		if (options.runtime != RUNTIME_PYXIS && path_is_sane(image))
			setenv(IMAGE_VARIABLE, image, 1);
		return;
	}
	if (name_text == NULL)
		return;

	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	plugin_conf_read(conf_path, options.config, 0, &conf);
	if (name_cut(name_text, name) < 0) {
		slurm_spank_log("slurm-fsx: no image can be called '%s'; see: slurm-fsx containers list",
				name_printable(name_text, printable, sizeof(printable)));
		if (conf.reject_unknown)
			refuse();
		return;
	}
	switch (resolve(&conf, name, path, sizeof(path))) {
	case RESOLVED:
		if (pass_image_on(spank, path) < 0)
			slurm_error("slurm-fsx: the path of %s does not reach the job: %s", name, strerror(errno));
		return;
	case UNKNOWN:
		if (conf.reject_unknown)
			refuse();
		return;
	case UNCERTAIN:
		return;
	}
}

void submit_resolve(spank_t spank, bool is_srun)
{
	resolve_container(spank);
	pass_nccl_on(is_srun);
}
