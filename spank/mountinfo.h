/* Which paths lie on a mounted file system, told by /proc alone: asking the path itself could hang. */
#ifndef SLURM_FSX_MOUNTINFO_H
#define SLURM_FSX_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>

/* Whether a mount point other than `/` stands at or above `path`, by the text of /proc/self/mountinfo. */
bool mountinfo_covers(const char *text, const char *path);

/* Whether `path` itself is a mount point. */
bool mountinfo_has_point(const char *text, const char *path);

/* Reads /proc/self/mountinfo. 0 and *text (to free), or -errno. */
int mountinfo_read(char **text);

/* Copies the mount point of one line; empty where the line has none. */
void mountinfo_point(const char *line, char path[PATH_MAX]);

#endif
