#include "env_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t find(const struct env_list *list, const char *name)
{
	size_t length = strlen(name), i;

	for (i = 0; i < list->count; i++)
		if (strncmp(list->entries[i], name, length) == 0 && list->entries[i][length] == '=')
			break;
	return i;
}

static const char *get(void *owner, const char *name)
{
	struct env_list *list = owner;
	size_t i = find(list, name);

	return i < list->count ? list->entries[i] + strlen(name) + 1 : NULL;
}

static int set(void *owner, const char *name, const char *value)
{
	struct env_list *list = owner;
	size_t i = find(list, name);
	char *entry = NULL;

	if (i == list->count) {
		char **larger = realloc(list->entries, (i + 1) * sizeof(*larger));

		if (larger == NULL)
			return -1;
		list->entries = larger;
		list->entries[i] = NULL;
	}
	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return -1;
	if (i == list->count)
		list->count++;
	free(list->entries[i]);
	list->entries[i] = entry;
	return 0;
}

static int unset(void *owner, const char *name)
{
	struct env_list *list = owner;
	size_t i = find(list, name);

	if (i == list->count)
		return 0;
	free(list->entries[i]);
	list->entries[i] = list->entries[--list->count];
	return 0;
}

struct environment env_list_environment(struct env_list *list)
{
	return (struct environment){list, get, set, unset};
}

void env_list_free(struct env_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->entries[i]);
	free(list->entries);
	*list = (struct env_list){0};
}
