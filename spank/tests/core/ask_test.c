#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ask.h"
#include "claims.h"

static void asking_python_never_goes_through_a_shell(void)
{
	char answer[256];
	struct question question = {.config = "/c.yaml", .name = "$(touch /tmp/x); a 'b'", .partition = "", .timeout_ms = 5000};

	question.command = write_script("found", "printf '/i/%s\\n' \"$4 $5 $SLURM_FSX_CONFIG $PATH\"\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_FOUND);
	CLAIM(same(answer, "/i/-- $(touch /tmp/x); a 'b' /c.yaml /usr/bin:/bin"));
	question.command = write_script("unknown", "exit 1\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_UNKNOWN);
	question.command = write_script("relative", "echo x\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE);
	question.command = write_script("slow", "exec sleep 9\n");
	question.timeout_ms = 100;
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE && strstr(answer, "no answer") != NULL);
	question.command = "/nonexistent/slurm-fsx";
	question.timeout_ms = 5000;
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE && strstr(answer, "is missing") != NULL);
}

static void asking_needs_no_open_streams(void)
{
	char answer[256];
	struct question question = {.config = "/c.yaml", .name = "a", .partition = "", .timeout_ms = 5000,
				    .command = write_script("streams", "echo /i/a\n")};
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		_exit(ask(&question, answer, sizeof(answer)) == ASK_FOUND && same(answer, "/i/a") ? 0 : 1);
	}
	CLAIM(waitpid(pid, &status, 0) == pid && status == 0);
}

void ask_tests(void)
{
	asking_needs_no_open_streams();
	asking_python_never_goes_through_a_shell();
}
