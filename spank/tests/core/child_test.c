#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "claims.h"

static int answer_slowly(void *context, int out)
{
	(void)out;
	sleep(*(unsigned int *)context);
	return 0;
}

static int answer_much(void *context, int out)
{
	char bytes[100];

	(void)context;
	memset(bytes, 'x', sizeof(bytes));
	return write(out, bytes, sizeof(bytes)) == sizeof(bytes) ? 7 : 1;
}

static void a_child_that_hangs_is_left_behind(void)
{
	char buffer[8];
	struct child_answer answer = {.buffer = buffer, .room = sizeof(buffer)};
	unsigned int seconds = 20;

	CLAIM(child_run(NULL, answer_slowly, &seconds, 50, &answer) == -ETIMEDOUT);
	CLAIM(child_run(NULL, answer_much, NULL, 5000, &answer) == 0);
	CLAIM(answer.exit_code == 7 && answer.length == 7 && same(buffer, "xxxxxxx"));
}

void child_tests(void)
{
	a_child_that_hangs_is_left_behind();
}
