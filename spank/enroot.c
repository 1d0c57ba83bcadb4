#include "enroot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "name.h"

/*
 * enroot settles its configuration, makes its folders, and then reads its library from ENROOT_LIBRARY_PATH. This one
 * answers instead. (doc/configuration.md of enroot; 3.4.1 and 4.1.2 do so.)
 */
static const char library[] = "printf '%s' \"${ENROOT_DATA_PATH}\"\nexit 0\n";

/* Of the step's variables, what Pyxis 0.20 to 0.24 keeps from enroot; the first is where a variable's name only starts so. */
static bool is_kept_from_enroot(const char *variable)
{
	static const char *const names[] = {
		"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_TASK_PID", "PMIX_RANK",
		"PMI_FD", "ENROOT_LIBRARY_PATH", "ENROOT_SYSCONF_PATH", "ENROOT_RUNTIME_PATH", "ENROOT_CACHE_PATH",
		"ENROOT_DATA_PATH", "ENROOT_TEMP_PATH", "ENROOT_ZSTD_OPTIONS", "ENROOT_TRANSFER_RETRIES",
		"ENROOT_CONNECT_TIMEOUT", "ENROOT_MAX_CONNECTIONS", "ENROOT_ALLOW_HTTP",
	};
	size_t length = strcspn(variable, "=");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == length && strncmp(variable, names[i], length) == 0)
			return true;
	return false;
}

static bool has(char *const *variables, const char *variable)
{
	size_t length = strcspn(variable, "=") + 1;

	for (; variables != NULL && *variables != NULL; variables++)
		if (strncmp(*variables, variable, length) == 0)
			return true;
	return false;
}

void enroot_environment(char *const *own, char *const *step, struct words *words)
{
	for (char *const *variable = own; variable != NULL && *variable != NULL; variable++)
		if (strncmp(*variable, "SLURM", 5) != 0 && strncmp(*variable, "ENROOT_LIBRARY_PATH=", 20) != 0 &&
		    (is_kept_from_enroot(*variable) || !has(step, *variable)))
			words_add(words, *variable);
	for (char *const *variable = step; variable != NULL && *variable != NULL; variable++)
		if (!is_kept_from_enroot(*variable))
			words_add(words, *variable);
}

const char *enroot_find(const char *folders, char program[PATH_MAX])
{
	if (folders == NULL)
		folders = "/usr/local/bin:/usr/bin:/bin";
	while (*folders != '\0') {
		size_t length = strcspn(folders, ":");
		int written = snprintf(program, PATH_MAX, "%.*s/enroot", (int)length, folders);

		if (program[0] == '/' && written < PATH_MAX && access(program, X_OK) == 0)
			return program;
		folders += length;
		folders += *folders == ':';
	}
	return NULL;
}

struct command {
	char *const *argv;
	char *const *environment;
	bool talks; /* its messages are wanted too */
};

static int execute(void *context, int out)
{
	const struct command *command = context;
	int null = open("/dev/null", O_RDWR);

	/* A group of its own, which can be ended with all that enroot starts. */
	setpgid(0, 0);
	if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(command->talks ? out : null, STDERR_FILENO) < 0)
		return 126;
	close_from(3);
	execve(command->argv[0], command->argv, command->environment);
	return 127;
}

/* Puts the answering library where enroot, running as anybody, can read it. 0 or -errno. */
static int write_library(const char *run_dir, char folder[PATH_MAX])
{
	char path[PATH_MAX + 32], staged[PATH_MAX + 64];
	struct stat st;
	int fd, rv = 0;

	if (snprintf(folder, PATH_MAX, "%s/enroot", run_dir) >= PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(path, sizeof(path), "%s/common.sh", folder);
	if (stat(path, &st) == 0 && st.st_size == sizeof(library) - 1)
		return 0;
	if ((mkdir(run_dir, 0755) < 0 && errno != EEXIST) || (mkdir(folder, 0755) < 0 && errno != EEXIST))
		return -errno;
	snprintf(staged, sizeof(staged), "%s/.common.%d", folder, getpid());
	fd = open(staged, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	if (write(fd, library, sizeof(library) - 1) != sizeof(library) - 1 || fchmod(fd, 0644) < 0 ||
	    rename(staged, path) < 0)
		rv = -errno;
	close(fd);
	return rv;
}

static int run(const struct user *user, struct command *command, int timeout_ms, struct child_answer *answer)
{
	int rv = child_run(user, execute, command, timeout_ms, answer);

	if (rv < 0 && answer->pid > 0)
		kill(-answer->pid, SIGKILL);
	if (rv == 0 && answer->exit_code != 0)
		rv = -EIO;
	return rv;
}

int enroot_data_path(const struct user *user, const char *program, const struct words *environment, const char *run_dir,
		     int timeout_ms, char path[PATH_MAX])
{
	char folder[PATH_MAX], variable[PATH_MAX + 32];
	char *argv[] = {(char *)program, (char *)"list", NULL};
	struct words words = {0};
	struct command command = {.argv = argv};
	struct child_answer answer = {.buffer = path, .room = PATH_MAX};
	int rv = write_library(run_dir, folder);

	if (rv < 0)
		return rv;
	for (size_t i = 0; i < environment->count; i++)
		words_add(&words, environment->items[i]);
	snprintf(variable, sizeof(variable), "ENROOT_LIBRARY_PATH=%s", folder);
	words_add(&words, variable);
	command.environment = words.items;
	rv = words.failed ? -ENOMEM : run(user, &command, timeout_ms, &answer);
	if (rv == 0 && !path_is_sane(path))
		rv = -EINVAL;
	words_free(&words);
	return rv;
}

int enroot_create(const struct user *user, const char *program, const struct words *environment, const char *container,
		  const char *image, int timeout_ms, char *why, size_t size)
{
	char output[4096] = "";
	/* --force: what an attempt that was killed has left under this name is no container. */
	char *argv[] = {(char *)program, (char *)"create", (char *)"--force", (char *)"--name", (char *)container,
			(char *)"--",    (char *)image,    NULL};
	struct command command = {.argv = argv, .environment = environment->items, .talks = true};
	struct child_answer answer = {.buffer = output, .room = sizeof(output)};
	int rv = run(user, &command, timeout_ms, &answer);

	if (rv == -EIO) {
		const char *last = output;

		while (answer.length > 0 && output[answer.length - 1] == '\n')
			output[--answer.length] = '\0';
		if (strrchr(output, '\n') != NULL)
			last = strrchr(output, '\n') + 1;
		name_printable(last, why, size);
	}
	return rv;
}
