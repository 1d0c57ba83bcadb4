#include "mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "name.h"
#include "trusted_file.h"

enum { MOUNT_POINT_FIELD = 5, TEXT_LIMIT = 16 * 1024 * 1024 };

/* Copies a field with its `\040` escapes resolved; empty if it does not fit. */
static void unescape(const char *field, char path[PATH_MAX])
{
	size_t length = 0;

	while (*field != '\0' && *field != ' ' && *field != '\n' && length < PATH_MAX - 1) {
		if (field[0] == '\\' && field[1] >= '0' && field[1] <= '3' && field[2] >= '0' && field[2] <= '7' &&
		    field[3] >= '0' && field[3] <= '7') {
			path[length++] = (char)((field[1] - '0') * 64 + (field[2] - '0') * 8 + (field[3] - '0'));
			field += 4;
		} else {
			path[length++] = *field++;
		}
	}
	path[length < PATH_MAX - 1 ? length : 0] = '\0';
}

/* The mount point's field of a line that ends at `end` (NULL = with the text), or NULL. */
static const char *point_field(const char *line, const char *end)
{
	for (int i = 1; i < MOUNT_POINT_FIELD && line != NULL; i++) {
		line = strchr(line, ' ');
		line = line == NULL || (end != NULL && line > end) ? NULL : line + 1;
	}
	return line;
}

void mountinfo_point(const char *line, char path[PATH_MAX])
{
	const char *field = point_field(line, NULL);

	path[0] = '\0';
	if (field != NULL)
		unescape(field, path);
}

bool mountinfo_covers(const char *text, const char *path)
{
	char point[PATH_MAX];

	for (const char *line = text; line != NULL && *line != '\0';) {
		const char *next = strchr(line, '\n'), *field = point_field(line, next);

		/* Nearly every line ends here: the second character tells. */
		if (field != NULL && field[0] == '/' && field[1] == path[1]) {
			unescape(field, point);
			if (point[0] == '/' && point[1] != '\0' && path_is_below(path, point))
				return true;
		}
		line = next != NULL ? next + 1 : NULL;
	}
	return false;
}

bool mountinfo_has_point(const char *text, const char *path)
{
	char point[PATH_MAX];

	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL) {
		mountinfo_point(line, point);
		if (strcmp(point, path) == 0)
			return true;
	}
	return false;
}

int mountinfo_read(char **text)
{
	size_t size = 0;
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	int rv;

	if (fd < 0)
		return -errno;
	rv = file_read_all(fd, TEXT_LIMIT, text, &size);
	close(fd);
	return rv;
}
