#include "ask.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "name.h"

struct command {
	char *const *argv;
	char *const *environment;
};

static int execute(void *context, int out)
{
	const struct command *command = context;
	int null = open("/dev/null", O_RDWR);

	/* Where the caller has closed its own streams, `out` has the number of one. */
	out = fcntl(out, F_DUPFD, STDERR_FILENO + 1);
	if (null < 0 || out < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		return 126;
	close_from(3);
	execve(command->argv[0], command->argv, command->environment);
	return errno == ENOENT ? 127 : 126;
}

enum ask_result ask(const struct question *question, char *answer, size_t size)
{
	char config[PATH_MAX + 32], home[PATH_MAX + 8] = "HOME=/", language[128] = "LANG=C.UTF-8";
	const char *value;
	/* `--` ends the options: a name may start with a dash. */
	char *argv[] = {(char *)question->command, "containers", "resolve", "--submit",
			"--partition", (char *)question->partition, "--", (char *)question->name, NULL};
	char *argv_anywhere[] = {(char *)question->command, "containers", "resolve", "--submit",
				 "--", (char *)question->name, NULL};
	char *environment[] = {"PATH=/usr/bin:/bin", config, home, language, NULL};
	struct command command = {question->partition[0] != '\0' ? argv : argv_anywhere, environment};
	struct child_answer reply = {.buffer = answer, .room = size};
	int rv;

	snprintf(config, sizeof(config), "SLURM_FSX_CONFIG=%s", question->config);
	value = getenv("HOME");
	if (value != NULL && path_is_sane(value))
		snprintf(home, sizeof(home), "HOME=%s", value);
	value = getenv("LANG");
	if (value != NULL && strlen(value) < 64)
		snprintf(language, sizeof(language), "LANG=%s", value);

	rv = child_run(NULL, execute, &command, question->timeout_ms, &reply);
	if (rv == -ETIMEDOUT) {
		snprintf(answer, size, "%s gave no answer within %d s", question->command, question->timeout_ms / 1000);
		return ASK_TROUBLE;
	}
	if (rv < 0 || reply.exit_code < 0) {
		snprintf(answer, size, "%s did not end as it should: %s", question->command,
			 rv < 0 ? strerror(-rv) : "ended by a signal");
		return ASK_TROUBLE;
	}
	if (reply.exit_code == 1)
		return ASK_UNKNOWN;
	if (reply.exit_code == 127) {
		snprintf(answer, size, "%s is missing", question->command);
		return ASK_TROUBLE;
	}
	answer[strcspn(answer, "\n")] = '\0';
	if (reply.exit_code != 0 || !path_is_sane(answer)) {
		snprintf(answer, size, "%s ended with code %d and named no path", question->command, reply.exit_code);
		return ASK_TROUBLE;
	}
	return ASK_FOUND;
}
