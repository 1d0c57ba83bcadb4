#include "stepd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "child.h"
#include "container.h"
#include "env_file.h"
#include "image.h"
#include "mountinfo.h"
#include "name.h"
#include "options.h"
#include "plugin_conf.h"
#include "runtime_bwrap.h"
#include "runtime_enroot.h"
#include "squashfs_mount.h"
#include "submit.h"
#include "user_limits.h"

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define HAS_PREPEND_TASK_ARGV 1
#endif

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
	OPEN_TIMEOUT_MS = 5000,
	MOUNT_TIMEOUT_MS = 10000,
	LOOK_TIMEOUT_MS = 2000,
};

/* Shared by slurmstepd and its tasks, which are forks of it. */
struct progress {
	atomic_bool a_task_started; /* past every other plugin's start, Pyxis's too */
	atomic_bool explained;
};

/* The step that this slurmstepd runs. */
static struct {
	bool started;
	uint32_t job;
	uint32_t step;
	struct env_file operations;
	bool nccl_is_off; /* for this step, not for the job */
	char *nccl_version; /* in the environment before any container; NULL where unset */
	char *image;        /* the path resolved at submission, or the user's own; NULL where none */
	struct stat node_root;
	struct plugin_conf conf;
	struct progress *progress;

	/* With a runtime of ours. */
	bool wants_container;
	struct container_mounts mounts;
	char mount_point[PATH_MAX + 96]; /* "" where nothing is mounted */
	char program[PATH_MAX];         /* bwrap or enroot */
	char failure[2 * PATH_MAX];      /* why no task can start; "" = none */
} step;

/* The environment of the step, in a task: of the task. */

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

static struct environment environment_of(spank_t spank)
{
	return (struct environment){spank, get_variable, set_variable, unset_variable};
}

static char *copy_of(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

/* A step's start. */

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
	step.nccl_version = copy_of(get_variable(spank, "NCCL_VERSION"));
	snprintf(conf_path, sizeof(conf_path), "%s/plugin.conf", options.run_dir);
	plugin_conf_read(conf_path, options.config, 0, &step.conf);
	nccl = get_variable(spank, NCCL_VARIABLE);
	step.nccl_is_off = nccl != NULL && strcmp(nccl, "off") == 0;
	read_operations();

	image = get_variable(spank, IMAGE_VARIABLE);
	if (image == NULL || !path_is_sane(image))
		return;
	step.image = strdup(image);
	/*
	 * Slurm takes plugins' options from the step's environment after every slurm_spank_init: this is Pyxis's own
	 * option, in any version and order. An image that the user gave is there already, and stays.
	 */
	if (options.runtime == RUNTIME_PYXIS)
		spank_setenv(spank, "_SLURM_SPANK_OPTION_pyxis_container_image", image, 0);
}

/* A container of ours. */

/* The user's choice: the option, or the variable that Pyxis's users have in their scripts. To free. */
static char *requested(spank_t spank, const char *option, const char *variable)
{
	const char *value = option != NULL ? option : get_variable(spank, variable);

	return value != NULL && value[0] != '\0' ? strdup(value) : NULL;
}

/* Readable, and what to do: this is what the user gets instead of a container. */
static void fail(const char *what, const char *detail, const char *next)
{
	snprintf(step.failure, sizeof(step.failure), "%s%s%s; %s", what, detail[0] != '\0' ? ": " : "", detail, next);
}

static void fail_at_image(int error)
{
	const char *next = "see: slurm-fsx containers list";
	char what[PATH_MAX + 64];

	snprintf(what, sizeof(what), "the container image %s cannot be used", step.image);
	if (error == ENOENT)
		fail(what, "it is gone; it was there when the job was submitted, or was written wrongly",
		     "submit again to get the image of today, or see: slurm-fsx containers list");
	else if (error == EACCES)
		fail(what, "you may not read it", "ask its owner, or your admin");
	else if (error == ENOEXEC)
		fail(what, "it is no squashfs file", next);
	else if (error == ETIMEDOUT)
		fail(what, "its file system gives no answer", "tell your admin, and submit again");
	else
		fail(what, strerror(error), next);
}

/* Named by the step, and by the node too: several slurmd of a test bed may share one machine. */
static int make_mount_folder(spank_t spank)
{
	char folder[PATH_MAX + 16];
	uint32_t node = 0;

	spank_get_item(spank, S_JOB_NODEID, &node);
	snprintf(folder, sizeof(folder), "%s/mounts", options.run_dir);
	if ((mkdir(options.run_dir, 0755) < 0 && errno != EEXIST) || (mkdir(folder, 0755) < 0 && errno != EEXIST)) {
		fail("no container can be mounted on this node", strerror(errno), "tell your admin");
		return -1;
	}
	snprintf(step.mount_point, sizeof(step.mount_point), "%s/%u.%u.%u", folder, step.job, step.step, node);
	return 0;
}

static void mount_image(spank_t spank, const struct user *user)
{
	char squashfuse[PATH_MAX];
	int rv;
	int image = squashfs_open(user, step.image, OPEN_TIMEOUT_MS);

	if (image < 0) {
		fail_at_image(-image);
		return;
	}
	if (program_find("squashfuse", squashfuse, sizeof(squashfuse)) == NULL) {
		fail("squashfuse is missing on this node", "", "tell your admin to install the package squashfuse");
		goto done;
	}
	if (make_mount_folder(spank) < 0)
		goto done;
	rv = squashfs_mount(user, image, squashfuse, step.mount_point, MOUNT_TIMEOUT_MS);
	if (rv < 0) {
		step.mount_point[0] = '\0';
		fail("the container image cannot be mounted", strerror(-rv),
		     "check it with: unsquashfs -s, and tell your admin if it is sound");
	}
done:
	close(image);
}

void stepd_prepare_container(spank_t spank)
{
	static const char *const programs[] = {"", "enroot", "bwrap"};
	static const char *const packages[] = {"", "enroot", "bubblewrap"};
	char *name = NULL, *image = NULL, *mounts = NULL, *bad = NULL, advice[64];
	gid_t *groups = NULL;
	int group_count = 0;
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
		fail("no image is known by that container name", "", "see: slurm-fsx containers list");
		goto done;
	}
	if (!path_is_sane(step.image)) {
		fail("--container-image takes the full path of a .sqsh file here", "",
		     "bring an image in with: slurm-fsx containers import");
		goto done;
	}
	if (mounts != NULL && container_mounts_parse(mounts, &step.mounts, &bad) < 0) {
		fail("--container-mounts is not SRC:DST[:ro] with two absolute paths", bad != NULL ? bad : "",
		     "write it so");
		goto done;
	}
	if (program_find(programs[options.runtime], step.program, sizeof(step.program)) == NULL) {
		snprintf(advice, sizeof(advice), "tell your admin to install the package %s", packages[options.runtime]);
		fail(programs[options.runtime], "it is missing on this node", advice);
		goto done;
	}
	if (spank_get_item(spank, S_JOB_UID, &user.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &user.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &group_count) != ESPANK_SUCCESS) {
		fail("Slurm does not tell whose job this is", "", "tell your admin");
		goto done;
	}
	user.groups = groups;
	user.group_count = (size_t)group_count;
	mount_image(spank, &user);
done:
	free(name);
	free(image);
	free(mounts);
	free(bad);
}

/* A task's start. */

/* What env_file_apply() asks about `library` operations, worked out when it first asks. */
struct library_place {
	const struct environment *environment;
	int root; /* the image's root, -1 = "/" */
	bool known;
	bool has_nccl;
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
		const char *version = environment->get(environment->owner, "NCCL_VERSION");

		place->known = true;
		/* Only the image can have brought a version that was not there before. */
		place->has_nccl = version != NULL &&
				  (step.nccl_version == NULL || strcmp(version, step.nccl_version) != 0);
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

/* `root` is the opened image of a container that is still to be entered, or -1. */
static void apply_operations(const struct environment *environment, bool in_container, int root)
{
	struct library_place library = {.environment = environment, .root = root};
	struct env_place place = {.in_container = in_container, .owner = &library, .takes_library = takes_library,
				  .shared_root = step.conf.fsx_root};
	int failures = step.nccl_is_off ? env_file_undo(&step.operations, environment, step.conf.fsx_root) :
					  env_file_apply(&step.operations, environment, &place);

	if (failures > 0)
		slurm_error("slurm-fsx: %d variables of %s/jobs/%u.env could not be set", failures, options.run_dir, step.job);
	free(library.mounts);
}

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

static void start_container(spank_t spank, const struct environment *environment)
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
	value = get_variable(spank, "HOME");
	container.home = value != NULL && path_is_sane(value) ? copy_of(value) : NULL;
	container.work_folder = getcwd(folder, sizeof(folder)) != NULL && folder[0] == '/' ? folder : "/";
	value = get_variable(spank, "PMIX_SERVER_TMPDIR");
	container.pmix = value != NULL && path_is_sane(value) ? copy_of(value) : NULL;
	if (step.step == SLURM_BATCH_SCRIPT && spank_get_item(spank, S_JOB_ARGV, &argc, &argv) == ESPANK_SUCCESS && argc > 0)
		container.script = argv[0];

	enter_image_environment(environment, root);
	apply_operations(environment, true, root);
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

/* Whether another plugin has moved us: a container's root is another directory than slurmstepd's. */
static bool is_in_container(void)
{
	struct stat root;

	return stat("/", &root) == 0 &&
	       (root.st_dev != step.node_root.st_dev || root.st_ino != step.node_root.st_ino);
}

void stepd_start_task(spank_t spank)
{
	struct environment environment = environment_of(spank);

	if (!step.started)
		return;
	if (step.progress != NULL)
		atomic_store(&step.progress->a_task_started, true);
	if (step.wants_container)
		start_container(spank, &environment);
	else
		apply_operations(&environment, is_in_container(), -1);
}

/* A task's and the step's end. */

void stepd_end_task(spank_t spank)
{
	struct user user = {0};
	gid_t *groups = NULL;
	int status = 0, group_count = 0, image;

	/*
	 * Only where Pyxis stopped the task before it came to us, with an image that we chose: then, and never on the
	 * way of a task that starts, the image is looked at, by a child that may hang in our place.
	 */
	if (options.runtime != RUNTIME_PYXIS || step.image == NULL || step.progress == NULL ||
	    atomic_load(&step.progress->a_task_started) ||
	    spank_get_item(spank, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS || status == 0 ||
	    atomic_exchange(&step.progress->explained, true))
		return;
	if (spank_get_item(spank, S_JOB_UID, &user.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &user.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &group_count) != ESPANK_SUCCESS)
		return;
	user.groups = groups;
	user.group_count = (size_t)group_count;
	image = squashfs_open(&user, step.image, LOOK_TIMEOUT_MS);
	if (image >= 0) {
		close(image);
		return;
	}
	fail_at_image(-image);
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
