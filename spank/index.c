#include "index.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trusted_file.h"

static const char first_line[] = "# slurm-fsx index 1\n";

/* A piece of the mapped file: nothing in it is NUL-terminated. */
struct piece {
	const char *start;
	size_t length;
};

static struct piece line_at(const char *start, const char *end)
{
	const char *stop = memchr(start, '\n', (size_t)(end - start));

	return (struct piece){start, (size_t)((stop != NULL ? stop : end) - start)};
}

/* The value of ` key=value ` in a header line; an empty piece where the key is missing. */
static struct piece header_value(struct piece line, const char *key)
{
	size_t key_length = strlen(key);
	const char *word = line.start, *end = line.start + line.length;

	while (word < end) {
		const char *stop = memchr(word, ' ', (size_t)(end - word));
		size_t length = (size_t)((stop != NULL ? stop : end) - word);

		if (length > key_length && word[key_length] == '=' && memcmp(word, key, key_length) == 0)
			return (struct piece){word + key_length + 1, length - key_length - 1};
		word += length + 1;
	}
	return (struct piece){NULL, 0};
}

static bool piece_is(struct piece piece, const char *text)
{
	return piece.length == strlen(text) && (piece.length == 0 || memcmp(piece.start, text, piece.length) == 0);
}

static bool is_number(struct piece piece, long long number)
{
	char digits[24];
	char *stop;

	if (piece.length == 0 || piece.length >= sizeof(digits))
		return false;
	memcpy(digits, piece.start, piece.length);
	digits[piece.length] = '\0';
	return strtoll(digits, &stop, 10) == number && *stop == '\0';
}

/* Checks the header against the folder as it is now; gives the first line that is no header, NULL if it is stale. */
static const char *skip_header(const struct index_query *query, const char *text, const char *end)
{
	size_t first = sizeof(first_line) - 1;
	struct piece line;
	struct stat folder;

	if ((size_t)(end - text) < first || memcmp(text, first_line, first) != 0)
		return NULL;
	line = line_at(text + first, end);
	if (line.length == 0 || line.start[0] != '#' || stat(query->containers, &folder) < 0)
		return NULL;
	if (!is_number(header_value(line, "folder"),
		       (long long)folder.st_mtim.tv_sec * 1000000000 + folder.st_mtim.tv_nsec) ||
	    !piece_is(header_value(line, "policy"), query->policy) ||
	    !piece_is(header_value(line, "complete"), "1") || !piece_is(header_value(line, "ask"), "0"))
		return NULL;
	while (line.start < end && line.start[0] == '#') {
		const char *after = line.start + line.length;

		line = line_at(after < end ? after + 1 : end, end);
	}
	return line.start;
}

/* Below, equal or above zero as `name` sorts before, at or after the line's name; bytewise, as LC_ALL=C sort does. */
static int compare(const char *name, size_t length, struct piece line)
{
	const char *tab = memchr(line.start, '\t', line.length);
	size_t other = tab != NULL ? (size_t)(tab - line.start) : line.length;
	int order = memcmp(name, line.start, length < other ? length : other);

	if (order == 0 && length != other)
		order = length < other ? -1 : 1;
	return order;
}

static int search(const char *low, const char *high, const char *name, char *path, size_t size)
{
	size_t length = strlen(name);

	while (low < high) {
		const char *middle = low + (high - low) / 2;
		struct piece line;
		int order;

		while (middle > low && middle[-1] != '\n')
			middle--;
		line = line_at(middle, high);
		order = compare(name, length, line);
		if (order == 0) {
			const char *value = line.start + length + 1;
			size_t value_length = line.length > length ? line.length - length - 1 : 0;

			if (value_length == 0 || value_length >= size || value[0] != '/' ||
			    memchr(value, '\0', value_length) != NULL)
				return -EINVAL;
			memcpy(path, value, value_length);
			path[value_length] = '\0';
			return 0;
		}
		if (order < 0) {
			high = middle;
		} else {
			low = line.start + line.length;
			if (low < high)
				low++;
		}
	}
	return -ENOENT;
}

int index_look_up(const struct index_query *query, char *path, size_t size)
{
	struct stat st;
	const char *text = MAP_FAILED, *names;
	size_t length = 0;
	int rv;
	int fd = trusted_file_open(query->index, query->owner, &st);

	if (fd < 0)
		return fd;
	if (st.st_size <= 0) {
		rv = -ESTALE;
		goto done;
	}
	length = (size_t)st.st_size;
	text = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED) {
		rv = -errno;
		goto done;
	}
	names = skip_header(query, text, text + length);
	rv = names == NULL ? -ESTALE : search(names, text + length, query->name, path, size);
done:
	if (text != MAP_FAILED)
		munmap((void *)text, length);
	close(fd);
	return rv;
}
