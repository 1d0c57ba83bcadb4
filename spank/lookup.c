#include "lookup.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "index.h"
#include "name.h"
#include "squashfs.h"

enum { INDEX_TIMEOUT_MS = 2000 };

/* Answers with the path of a whole image; ends with -errno as exit code where the index has none. */
static int look_up(void *context, int out)
{
	char path[PATH_MAX];
	int rv;

	out = child_keep_only(out);
	rv = out < 0 ? out : index_look_up(context, path, sizeof(path));
	/* A file can be changed in place without a trace in the folder: whoever we ask then says what is wrong with it. */
	if (rv == 0 && squashfs_check_path(path) < 0)
		rv = -ESTALE;
	if (rv == 0 && write(out, path, strlen(path)) != (ssize_t)strlen(path))
		rv = -EIO;
	return -rv;
}

int lookup_by_index(const struct plugin_conf *conf, const char *name, char *path, size_t size)
{
	struct index_query query = {.index = conf->index, .containers = conf->containers, .policy = conf->policy,
				    .name = name, .owner = 0};
	struct child_answer answer = {.buffer = path, .room = size};
	int rv;

	/* Also with a stale configuration: whom we would ask then must not be the one who finds that the folder hangs. */
	rv = child_run(NULL, look_up, &query, INDEX_TIMEOUT_MS, &answer);
	if (rv != -ETIMEDOUT && !conf->is_current)
		return -ESTALE;
	if (rv == 0 && (answer.exit_code > 0 || !path_is_sane(path)))
		rv = -ENOENT;
	return rv;
}
