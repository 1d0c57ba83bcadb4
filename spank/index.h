/* The catalogue's index: sorted `NAME<TAB>PATH` lines, written by slurm_fsx_tools.containers.index. */
#ifndef SLURM_FSX_INDEX_H
#define SLURM_FSX_INDEX_H

#include <stddef.h>
#include <sys/types.h>

struct index_query {
	const char *index;      /* the file */
	const char *containers; /* the folder it describes */
	const char *policy;     /* the configuration it must have been made with */
	const char *name;
	uid_t owner;            /* who may own the file besides root */
};

/*
 * Looks one name up by binary search in the mapped file. Allocates nothing, so that it may run in a forked child.
 * 0 and the absolute path on success; -ENOENT for an unknown name; -ESTALE where the folder has changed since or the
 * index does not claim to know every name; another -errno where it cannot be read or believed.
 */
int index_look_up(const struct index_query *query, char *path, size_t size);

#endif
