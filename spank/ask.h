/* Asking Python: `slurm-fsx containers resolve NAME`, for what the index cannot answer. */
#ifndef SLURM_FSX_ASK_H
#define SLURM_FSX_ASK_H

#include <stddef.h>

struct question {
	const char *command; /* the slurm-fsx command */
	const char *config;  /* its configuration */
	const char *name;
	const char *partition; /* "" where none was given */
	int timeout_ms;
};

enum ask_result {
	ASK_FOUND,   /* the path is in the buffer */
	ASK_UNKNOWN, /* no image has that name; Python has written a hint to our standard error */
	ASK_TROUBLE, /* nothing is known; the buffer says why */
};

/* Runs the command directly, never a shell, with an environment of its own. */
enum ask_result ask(const struct question *question, char *answer, size_t size);

#endif
