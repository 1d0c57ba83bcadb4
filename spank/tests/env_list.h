/* An environment that is a plain list, for tests. */
#ifndef SLURM_FSX_ENV_LIST_H
#define SLURM_FSX_ENV_LIST_H

#include "env_file.h"

struct env_list {
	char **entries;
	size_t count;
};

struct environment env_list_environment(struct env_list *list);
void env_list_free(struct env_list *list);

#endif
