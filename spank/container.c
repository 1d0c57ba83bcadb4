#include "container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name.h"

void words_add(struct words *words, const char *word)
{
	if (words->failed)
		return;
	if (words->count + 2 > words->room) {
		size_t room = words->room > 0 ? 2 * words->room : 64;
		char **larger = realloc(words->items, room * sizeof(*larger));

		if (larger == NULL) {
			words->failed = true;
			return;
		}
		words->items = larger;
		words->room = room;
	}
	words->items[words->count] = strdup(word);
	if (words->items[words->count] == NULL) {
		words->failed = true;
		return;
	}
	words->items[++words->count] = NULL;
}

void words_free(struct words *words)
{
	for (size_t i = 0; i < words->count; i++)
		free(words->items[i]);
	free(words->items);
	*words = (struct words){0};
}

static bool climbs(const char *path)
{
	for (const char *part = path; part != NULL; part = strchr(part, '/')) {
		part += strspn(part, "/");
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return true;
	}
	return false;
}

static bool has_flag(const char *flags, const char *flag)
{
	size_t length = strlen(flag);

	while (*flags != '\0') {
		size_t other = strcspn(flags, "+");

		if (other == length && memcmp(flags, flag, length) == 0)
			return true;
		flags += other;
		flags += *flags == '+';
	}
	return false;
}

static int parse_entry(char *entry, struct container_mount *mount)
{
	char *target = strchr(entry, ':'), *flags = NULL;

	if (target != NULL) {
		*target++ = '\0';
		flags = strchr(target, ':');
	}
	if (flags != NULL)
		*flags++ = '\0';
	if (target == NULL)
		target = entry;
	/* Mounting over the root itself would hide the image. */
	if (!path_is_sane(entry) || !path_is_sane(target) || climbs(target) || strspn(target, "/") == strlen(target))
		return -EINVAL;
	mount->source = strdup(entry);
	mount->target = strdup(target);
	mount->read_only = flags != NULL && has_flag(flags, "ro");
	return mount->source != NULL && mount->target != NULL ? 0 : -ENOMEM;
}

int container_mounts_parse(const char *text, struct container_mounts *mounts, char **bad)
{
	char *copy = strdup(text), *rest = copy, *entry;
	size_t room = 1;
	int rv = 0;

	*bad = NULL;
	for (const char *c = text; *c != '\0'; c++)
		room += *c == ',';
	*mounts = (struct container_mounts){.items = calloc(room, sizeof(*mounts->items))};
	if (copy == NULL || mounts->items == NULL) {
		rv = -ENOMEM;
		goto done;
	}
	while ((entry = strsep(&rest, ",")) != NULL) {
		char *as_written = strdup(entry);

		rv = parse_entry(entry, &mounts->items[mounts->count++]);
		if (rv < 0) {
			*bad = as_written;
			goto done;
		}
		free(as_written);
	}
done:
	if (rv < 0)
		container_mounts_free(mounts);
	free(copy);
	return rv;
}

void container_mounts_free(struct container_mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++) {
		free(mounts->items[i].source);
		free(mounts->items[i].target);
	}
	free(mounts->items);
	*mounts = (struct container_mounts){0};
}
