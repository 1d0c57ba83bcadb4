/* A job's environment file: what the prolog decided, one operation a line (slurm_fsx_tools/jobenv.py). */
#ifndef SLURM_FSX_ENV_FILE_H
#define SLURM_FSX_ENV_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum env_verb { ENV_DEFAULT, ENV_SET, ENV_PREPEND, ENV_APPEND, ENV_UNSET };
enum env_scope { ENV_EVERYWHERE, ENV_HOST, ENV_LIBRARY };

struct env_operation {
	enum env_verb verb;
	enum env_scope scope;
	const char *name;  /* both point into the file's text */
	const char *value; /* "" for unset */
};

struct env_file {
	char *text;
	struct env_operation *operations;
	size_t count;
};

/* An environment to read and change: a task's through SPANK, or a plain list. */
struct environment {
	void *owner;
	const char *(*get)(void *owner, const char *name); /* NULL where it is unset; valid until the next change */
	int (*set)(void *owner, const char *name, const char *value);
	int (*unset)(void *owner, const char *name);
};

/* Where the task is. */
struct env_place {
	bool in_container;
	void *owner;
	bool (*takes_library)(void *owner, const char *value); /* asked in a container alone; NULL = never */
	const char *shared_root; /* see env_file_undo() */
};

/* Reads `path`; `owner` may own it besides root. 0, or -errno; -EINVAL where the first line is not ours. */
int env_file_read(const char *path, uid_t owner, struct env_file *file);

/* Takes over `text` (malloc'ed, `size` bytes and a NUL) and parses it; a line that does not parse is skipped. */
int env_file_parse(char *text, size_t size, struct env_file *file);

/*
 * Applies the operations in order; gives how many could not be. One that is left out in a container is undone there: the
 * step comes from a batch script on the node, which has it, and Pyxis hands the job's variables on.
 */
int env_file_apply(const struct env_file *file, const struct environment *environment, const struct env_place *place);

/*
 * Takes back what an outer step of the job has got from this file: a variable that still has the file's value, and the
 * entries of lists that lie below `shared_root` (NULL = none), since no other is surely ours. Gives how many could not be.
 */
int env_file_undo(const struct env_file *file, const struct environment *environment, const char *shared_root);

/* Frees all and leaves an empty file, which may be freed and applied again. */
void env_file_free(struct env_file *file);

#endif
