/* What the core's tests are written with. Each suite begins in an empty folder of its own. */
#ifndef SLURM_FSX_CLAIMS_H
#define SLURM_FSX_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

extern char test_folder[];

/* One that does not hold is printed with its place, and the run ends with 1. */
#define CLAIM(condition) claim(condition, #condition, __FILE__, __LINE__)
void claim(bool holds, const char *text, const char *file, int line);

/* Whether two texts are there, and equal. */
bool same(const char *a, const char *b);

/* A path in the suite's folder; four may be in use at once. */
const char *in_folder(const char *name);

/* These write a file there, and give its path. */
const char *write_bytes(const char *name, const char *data, size_t size, mode_t mode);
const char *write_file(const char *name, const char *text);
const char *write_script(const char *name, const char *text);

/* Nanoseconds since 1970; 0 where nothing is there. */
long long mtime_of(const char *path);

#endif
