#include "step_container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "catalogue.h"
#include "image.h"
#include "miss.h"
#include "local_copy.h"
#include "name.h"
#include "options.h"
#include "runtime_bwrap.h"
#include "runtime_enroot.h"
#include "squashfs_mount.h"
#include "step.h"
#include "user_limits.h"

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define HAS_PREPEND_TASK_ARGV 1
#endif

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
	OPEN_TIMEOUT_MS = 5000,
	MOUNT_TIMEOUT_MS = 10000,
	MARK_TIMEOUT_MS = 2000,
};

/* The user's choice: the option, or the variable that Pyxis's users have in their scripts. To free. */
static char *requested(spank_t spank, const char *option, const char *variable)
{
	struct environment environment = step_environment(spank);
	const char *value = option != NULL ? option : environment.get(environment.owner, variable);

	return value != NULL && value[0] != '\0' ? strdup(value) : NULL;
}

/* Named by the step, and by the node too: several slurmd of a test bed may share one machine. */
static int make_mount_folder(spank_t spank)
{
	char folder[PATH_MAX + 16];
	uint32_t node = 0;

	spank_get_item(spank, S_JOB_NODEID, &node);
	snprintf(folder, sizeof(folder), "%s/mounts", options.run_dir);
	if ((mkdir(options.run_dir, 0755) < 0 && errno != EEXIST) || (mkdir(folder, 0755) < 0 && errno != EEXIST)) {
		step_fail("no container can be mounted on this node", strerror(errno), "tell your admin");
		return -1;
	}
	snprintf(step.mount_point, sizeof(step.mount_point), "%s/%u.%u.%u", folder, step.job, step.step, node);
	return 0;
}

static void mount_image(spank_t spank, const struct user *user)
{
	struct environment environment = step_environment(spank);
	char squashfuse[PATH_MAX];
	int rv = -ENOENT, copy;
	int image = squashfs_open(user, step.image, OPEN_TIMEOUT_MS);

	if (image < 0) {
		step_fail_at_image(-image);
		return;
	}
	catalogue_mark_use(step.conf.containers, step.image, environment.get(environment.owner, "SLURM_CLUSTER_NAME"), step.job,
			   MARK_TIMEOUT_MS);
	copy = local_copy_open(user, step.conf.containers, step.conf.stage, step.image, image);
	if (program_find("squashfuse", squashfuse, sizeof(squashfuse)) == NULL) {
		step_fail("squashfuse is missing on this node", "", "tell your admin to install the package squashfuse");
		goto done;
	}
	if (make_mount_folder(spank) < 0)
		goto done;
	if (copy >= 0)
		rv = squashfs_mount(user, copy, squashfuse, step.mount_point, false, MOUNT_TIMEOUT_MS, NULL);
	if (rv < 0)
		rv = squashfs_mount(user, image, squashfuse, step.mount_point, false, MOUNT_TIMEOUT_MS, NULL);
	if (rv < 0) {
		step.mount_point[0] = '\0';
		step_fail("the container image cannot be mounted", strerror(-rv),
			  "check it with: unsquashfs -s, and tell your admin if it is sound");
	}
done:
	if (copy >= 0)
		close(copy);
	close(image);
}

void step_container_prepare(spank_t spank)
{
	static const char *const programs[] = {"", "enroot", "bwrap"};
	static const char *const packages[] = {"", "enroot", "bubblewrap"};
	char *name = NULL, *image = NULL, *mounts = NULL, *bad = NULL, advice[64];
	struct user user = {0};

	if (options.runtime == RUNTIME_PYXIS || step.step == SLURM_EXTERN_CONT)
		return;
	name = requested(spank, user_options.container_name, "PYXIS_CONTAINER_NAME");
	image = requested(spank, user_options.container_image, "PYXIS_CONTAINER_IMAGE");
	mounts = requested(spank, user_options.container_mounts, "PYXIS_CONTAINER_MOUNTS");
	/* The variable alone asks too: `sbatch --export=NONE` drops the options on 22.05, and submit side clears it. */
	step.wants_container = name != NULL || image != NULL || step.image != NULL;
	if (!step.wants_container)
		goto done;
	if (image != NULL && strpbrk(image, "/:") != NULL) {
		free(step.image);
		step.image = image;
		image = NULL;
	}
	if (step.image == NULL) {
		miss_count(options.run_dir);
		step_fail("no image is known by that container name", "", "see: slurm-fsx containers list");
		goto done;
	}
	if (!path_is_sane(step.image)) {
		step_fail("--container-image takes the full path of a .sqsh file here", "",
			  "put the image into the catalogue, and see: slurm-fsx containers list");
		goto done;
	}
	if (mounts != NULL && container_mounts_parse(mounts, &step.mounts, &bad) < 0) {
		step_fail("--container-mounts is not SRC:DST[:ro] with two absolute paths", bad != NULL ? bad : "",
			  "write it so");
		goto done;
	}
	if (program_find(programs[options.runtime], step.program, sizeof(step.program)) == NULL) {
		snprintf(advice, sizeof(advice), "tell your admin to install the package %s", packages[options.runtime]);
		step_fail(programs[options.runtime], "it is missing on this node", advice);
		goto done;
	}
	if (step_user(spank, &user) < 0) {
		step_fail("Slurm does not tell whose job this is", "", "tell your admin");
		goto done;
	}
	mount_image(spank, &user);
done:
	free(name);
	free(image);
	free(mounts);
	free(bad);
}

/* In a task. */

/* The image's variables win over the job's, and the node's paths mean nothing in there: Pyxis's rules. */
static void enter_image_environment(const struct environment *environment, int root)
{
	static const char *const dropped[] = {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LANG", "LANGUAGE", "LC_ALL"};
	char *text = NULL, *rest, *entry;

	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		environment->unset(environment->owner, dropped[i]);
	environment->set(environment->owner, "PATH", DEFAULT_PATH);
	if (image_read_environment(root, &text) < 0)
		return;
	rest = text;
	while ((entry = strsep(&rest, "\n")) != NULL) {
		char *value = strchr(entry, '=');

		if (value == NULL || value == entry || entry[0] == '#')
			continue;
		*value++ = '\0';
		environment->set(environment->owner, entry, value);
	}
	free(text);
}

/* LD_* would act on the runtime, out here, before it acts on the task: the runtime sets it inside. */
static int add_loader_variables(spank_t spank, const struct environment *environment, struct words *words)
{
	struct words names = {0};
	char **variables = NULL;

	if (spank_get_item(spank, S_JOB_ENV, &variables) != ESPANK_SUCCESS)
		return -EINVAL;
	for (; variables != NULL && *variables != NULL; variables++) {
		size_t length = strcspn(*variables, "=");
		char name[64];

		if (strncmp(*variables, "LD_", 3) != 0 || length >= sizeof(name) || (*variables)[length] != '=')
			continue;
		memcpy(name, *variables, length);
		name[length] = '\0';
		words_add(&names, name);
		words_add(words, "--setenv");
		words_add(words, name);
		words_add(words, *variables + length + 1);
	}
	for (size_t i = 0; i < names.count; i++)
		environment->unset(environment->owner, names.items[i]);
	words_free(&names);
	return 0;
}

/*
 * enroot hands nothing on but what it is told to, by name; and what it is told wins over the image, so it gets the
 * variables as they are to be inside. PATH and LD_* would act on enroot itself: for these it is told the value.
 */
static int add_enroot_variables(spank_t spank, const struct environment *environment, struct words *words)
{
	char **variables = NULL;

	if (spank_get_item(spank, S_JOB_ENV, &variables) != ESPANK_SUCCESS)
		return -EINVAL;
	for (; variables != NULL && *variables != NULL; variables++) {
		char *name;

		/* It keeps them in a file, one a line; a shell function that was exported has no name it takes. */
		if (strchr(*variables, '\n') != NULL || (*variables)[strcspn(*variables, "=%.-()[] ")] != '=')
			continue;
		name = strdup(*variables);
		if (name == NULL)
			return -ENOMEM;
		if (strncmp(name, "PATH=", 5) != 0 && strncmp(name, "LD_", 3) != 0)
			name[strcspn(name, "=")] = '\0';
		words_add(words, "--env");
		words_add(words, name);
		free(name);
	}
	environment->set(environment->owner, "PATH", DEFAULT_PATH);
	environment->unset(environment->owner, "LD_LIBRARY_PATH");
	environment->unset(environment->owner, "LD_PRELOAD");
	return 0;
}

/* A task whose container cannot start must not run on the node: whatever a plugin returns here may be overlooked. */
static void __attribute__((noreturn)) refuse_task(const char *why)
{
	slurm_error("slurm-fsx: %s", why);
	_exit(EXIT_FAILURE);
}

static void run(spank_t spank, const struct environment *environment, struct words *words)
{
#ifdef HAS_PREPEND_TASK_ARGV
	(void)environment;
	if (spank_prepend_task_argv(spank, (int)words->count, (const char **)words->items) != ESPANK_SUCCESS)
		refuse_task("Slurm does not let a container be put around the task; tell your admin");
#else
	char **argv = NULL, **variables = NULL;
	char why[PATH_MAX + 64];
	int argc = 0;

	if (spank_get_item(spank, S_JOB_ARGV, &argc, &argv) != ESPANK_SUCCESS || argc < 1)
		refuse_task("Slurm does not tell what to run in the container; tell your admin");
	for (int i = 0; i < argc; i++)
		words_add(words, argv[i]);
	/* This is execve() for Slurm, so what Slurm does between here and its own comes first. */
	if (environment->get(environment->owner, "TMPDIR") == NULL)
		environment->set(environment->owner, "TMPDIR", "/tmp");
	user_limits_apply(environment);
	if (spank_get_item(spank, S_JOB_ENV, &variables) != ESPANK_SUCCESS || words->failed)
		refuse_task("out of memory");
	execve(words->items[0], words->items, variables);
	snprintf(why, sizeof(why), "%s cannot be started: %s", words->items[0], strerror(errno));
	refuse_task(why);
#endif
}

void step_container_start(spank_t spank, const struct environment *environment)
{
	struct container container = {.image = step.image, .root = step.mount_point, .fsx_root = step.conf.fsx_root,
				      .mounts = &step.mounts};
	struct words words = {0};
	char folder[PATH_MAX] = "/", why[256];
	char **argv = NULL;
	const char *value;
	int argc = 0, root, rv;

	if (step.failure[0] != '\0')
		refuse_task(step.failure);
	root = open(step.mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		refuse_task("the container image was mounted, and is no longer; submit again");
	value = environment->get(environment->owner, "HOME");
	container.home = value != NULL && path_is_sane(value) ? strdup(value) : NULL;
	container.work_folder = getcwd(folder, sizeof(folder)) != NULL && folder[0] == '/' ? folder : "/";
	value = environment->get(environment->owner, "PMIX_SERVER_TMPDIR");
	container.pmix = value != NULL && path_is_sane(value) ? strdup(value) : NULL;
	if (step.step == SLURM_BATCH_SCRIPT && spank_get_item(spank, S_JOB_ARGV, &argc, &argv) == ESPANK_SUCCESS && argc > 0)
		container.script = argv[0];

	enter_image_environment(environment, root);
	step_apply_operations(environment, true, root);
	if (options.runtime == RUNTIME_BWRAP) {
		rv = bwrap_words(&container, step.program, root, &words);
		if (rv == 0)
			rv = add_loader_variables(spank, environment, &words);
		words_add(&words, "--");
	} else {
		rv = enroot_words(&container, step.program, &words);
		if (rv == 0)
			rv = add_enroot_variables(spank, environment, &words);
		enroot_add_command(&container, &words);
	}
	close(root);
	if (rv < 0 || words.failed) {
		snprintf(why, sizeof(why), "the container cannot be put together: %s",
			 strerror(rv < 0 ? -rv : ENOMEM));
		refuse_task(why);
	}
	run(spank, environment, &words);
	words_free(&words);
	free((char *)container.home);
	free((char *)container.pmix);
}
