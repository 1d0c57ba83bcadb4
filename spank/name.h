/* What users may write as a container's name, and what of it may be looked up. */
#ifndef SLURM_FSX_NAME_H
#define SLURM_FSX_NAME_H

#include <stdbool.h>
#include <stddef.h>

enum { NAME_SIZE = 256 };

/*
 * Cuts Pyxis's flags off (`pytorch:no_exec`) and checks the rest: 1 to 255 bytes without `/` and control characters,
 * not `.` or `..`, no `#` first. 0, or -EINVAL for a text that cannot name an image.
 */
int name_cut(const char *text, char name[NAME_SIZE]);

/* Copies `text` for a log line: control characters become `?`, what does not fit becomes `...`. Returns `out`. */
const char *name_printable(const char *text, char *out, size_t size);

/* Whether `value` may be given to --nccl: 1 to 64 of [A-Za-z0-9._-]. */
bool nccl_value_is_valid(const char *value);

/* Whether `path` is absolute, fits PATH_MAX and holds no control character. */
bool path_is_sane(const char *path);

/* The file's name in `path` if it lies in `folder` itself and is not hidden; else NULL. Both absolute. */
const char *path_file_in(const char *path, const char *folder);

/*
 * The name under which the index has an image that is not given by its path: a short name as it is, a docker:// URI
 * as its file is called (slurm_fsx_tools.containers.names). 0, or -EINVAL where that takes more than this knows.
 */
int name_of_image(const char *image, char name[NAME_SIZE]);

/* Whether `path` is `folder` or below it; both absolute. */
bool path_is_below(const char *path, const char *folder);

#endif
