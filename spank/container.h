/* What a user asks for with --container-mounts, and the list of words that a runtime is started with. */
#ifndef SLURM_FSX_CONTAINER_H
#define SLURM_FSX_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>

/* Words for execve(); the words are copies. After a failed allocation it stays `failed` and takes no more. */
struct words {
	char **items; /* NULL-terminated */
	size_t count;
	size_t room;
	bool failed;
};

void words_add(struct words *words, const char *word);
void words_free(struct words *words);

struct container_mount {
	char *source;
	char *target;
	bool read_only;
};

struct container_mounts {
	struct container_mount *items;
	size_t count;
};

/*
 * Reads `SRC:DST[:FLAGS][,SRC:DST...]`; FLAGS are joined by `+`, and `ro` counts. Both paths are absolute.
 * 0, or -errno with *bad set to a copy of the entry that is wrong (to free; may be NULL).
 */
int container_mounts_parse(const char *text, struct container_mounts *mounts, char **bad);
void container_mounts_free(struct container_mounts *mounts);

/* What a runtime is to start. */
struct container {
	const char *image;      /* the .sqsh file */
	const char *root;       /* where it is mounted */
	const char *fsx_root;
	const char *home;       /* absolute, or NULL */
	const char *work_folder; /* absolute */
	const char *script;     /* the batch script in slurmd's spool, or NULL */
	const char *pmix;       /* PMIx's folder of this step, or NULL */
	const struct container_mounts *mounts;
};

#endif
