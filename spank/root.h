/*
 * What is known on a node of a named container's root that we prepared: where its parts lie, and who uses it.
 *
 *   STATE/roots/ID/state   what it was made from; slurm_fsx_tools/containers/on_node/roots.py reads the same
 *   STATE/roots/ID/jobs/N  an empty file for each job that uses it
 *   STATE/roots/ID/{image,upper,work}   the mounted image, and the overlay's layers
 *   STATE/locks/ID         held by whoever changes any of it
 *   STATE/trash/           what is to be deleted, by whoever has the time
 *
 * ID is UID.CONTAINER, e.g. 2001.pyxis_12_pytorch. All of it is root's alone.
 */
#ifndef SLURM_FSX_ROOT_H
#define SLURM_FSX_ROOT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { ROOT_ID_SIZE = 224 };

struct root {
	char state_dir[PATH_MAX];
	char id[ROOT_ID_SIZE];
	char folder[PATH_MAX];
	char record[PATH_MAX];
	char jobs[PATH_MAX];
	char image[PATH_MAX];
	char upper[PATH_MAX];
	char work[PATH_MAX];
};

struct root_record {
	uid_t uid;
	gid_t gid;
	bool keeps_writes;      /* container_scope=global: what was written is there for the next job */
	char target[PATH_MAX];  /* where Pyxis looks for it */
	char image[PATH_MAX];
	char identity[96];      /* of the image's file: inode, size, modification time in ns */
	pid_t server;           /* squashfuse; 0 = none */
	unsigned long long server_start; /* in clock ticks since boot, so that no other process is taken for it */
};

/* Fills in the paths. 0, or -EINVAL where the folder or the name has what an overlay's options cannot carry. */
int root_name(const char *state_dir, uid_t uid, const char *container, struct root *root);

/* Makes the folders above a root. 0 or -errno. */
int root_make_state(const char *state_dir);

/* Waits for the root's lock. A descriptor, or -ETIMEDOUT or another -errno. */
int root_lock(const struct root *root, int timeout_ms);
/* Lets go of it; `for_good` removes its file too, which only its holder may do. */
void root_unlock(const struct root *root, int lock, bool for_good);

/* 0 or -errno; -ENOENT where there is none. */
int root_record_read(const struct root *root, struct root_record *record);
int root_record_write(const struct root *root, const struct root_record *record);

/* Makes the root's folder and its parts, those that are not there. 0 or -errno. */
int root_make(const struct root *root, uid_t uid, gid_t gid);
/* Puts the root's folder among what is to be deleted. 0 or -errno; 0 where there is none. */
int root_discard(const struct root *root);

/* How many roots a job uses on this node. */
size_t roots_of_job(const char *state_dir, uint32_t job);

bool root_has_job(const struct root *root, uint32_t job);
int root_add_job(const struct root *root, uint32_t job);
bool root_drop_job(const struct root *root, uint32_t job);
/* Whether a job other than `job` uses the root and is on this node. */
bool root_is_shared(const struct root *root, uint32_t job, const char *run_dir);

/* When a process started, in clock ticks since boot; 0 where there is no such process. */
unsigned long long process_start(pid_t pid);
/* Waits for the end of a process that has nothing to do any more, and after a while ends it. */
void process_end(pid_t pid, unsigned long long start);

#endif
