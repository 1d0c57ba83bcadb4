#include "env_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name.h"
#include "trusted_file.h"

static const char header[] = "# slurm-fsx env 1";
enum { FILE_LIMIT = 1024 * 1024 };

static bool is_variable_name(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";

	if (name[0] == '\0' || strchr(letters, name[0]) == NULL)
		return false;
	for (; *name != '\0'; name++)
		if (strchr(letters, *name) == NULL && (*name < '0' || *name > '9'))
			return false;
	return true;
}

/* Cuts the word up to the next space off `*rest`. */
static char *take_word(char **rest)
{
	char *word = *rest, *space = strchr(word, ' ');

	if (space == NULL) {
		*rest = word + strlen(word);
	} else {
		*space = '\0';
		*rest = space + 1;
	}
	return word;
}

static bool parse_line(char *line, struct env_operation *operation)
{
	static const char *const verbs[] = {"default", "set", "prepend", "append", "unset"};
	char *rest = line, *word = take_word(&rest), *equals;
	size_t verb;

	operation->scope = ENV_EVERYWHERE;
	if (strcmp(word, "host") == 0)
		operation->scope = ENV_HOST;
	else if (strcmp(word, "library") == 0)
		operation->scope = ENV_LIBRARY;
	if (operation->scope != ENV_EVERYWHERE)
		word = take_word(&rest);
	for (verb = 0; verb < sizeof(verbs) / sizeof(verbs[0]); verb++)
		if (strcmp(word, verbs[verb]) == 0)
			break;
	if (verb == sizeof(verbs) / sizeof(verbs[0]))
		return false;
	operation->verb = (enum env_verb)verb;
	equals = strchr(rest, '=');
	if ((equals == NULL) != (operation->verb == ENV_UNSET))
		return false;
	if (equals != NULL)
		*equals = '\0';
	operation->name = rest;
	operation->value = equals != NULL ? equals + 1 : "";
	return is_variable_name(operation->name);
}

int env_file_parse(char *text, size_t size, struct env_file *file)
{
	size_t lines = 1, first = sizeof(header) - 1;
	char *line, *end = text + size;

	*file = (struct env_file){.text = text};
	if (size < first || memcmp(text, header, first) != 0 || (size > first && text[first] != '\n')) {
		env_file_free(file);
		return -EINVAL;
	}
	for (const char *c = text; c < end; c++)
		lines += *c == '\n';
	file->operations = calloc(lines, sizeof(*file->operations));
	if (file->operations == NULL) {
		env_file_free(file);
		return -ENOMEM;
	}
	for (line = text + first + 1; line < end; line++) {
		char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((stop != NULL ? stop : end) - line);

		line[length] = '\0';
		/* A NUL inside would cut a value short: such a line does not parse. */
		if (strlen(line) == length && parse_line(line, &file->operations[file->count]))
			file->count++;
		line += length;
	}
	return 0;
}

int env_file_read(const char *path, uid_t owner, struct env_file *file)
{
	char *text = NULL;
	size_t size = 0;
	int rv;

	*file = (struct env_file){0};
	rv = trusted_file_read(path, owner, FILE_LIMIT, &text, &size);
	return rv < 0 ? rv : env_file_parse(text, size, file);
}

void env_file_free(struct env_file *file)
{
	free(file->operations);
	free(file->text);
	*file = (struct env_file){0};
}

/* Whether the `:`-separated `list` holds the entry of `length` bytes. */
static bool list_holds(const char *list, const char *entry, size_t length)
{
	while (*list != '\0') {
		size_t other = strcspn(list, ":");

		if (other == length && memcmp(list, entry, length) == 0)
			return true;
		list += other;
		list += *list == ':';
	}
	return false;
}

/* Writes the entries of `list` behind `out`, without empty ones, those already written by us, and those in `without`. */
static char *write_entries(char *out, const char *start, const char *list, const char *without, bool once)
{
	while (*list != '\0') {
		size_t length = strcspn(list, ":");

		*out = '\0';
		if (length > 0 && !list_holds(without, list, length) && !(once && list_holds(start, list, length))) {
			if (out > start)
				*out++ = ':';
			memcpy(out, list, length);
			out += length;
		}
		list += length;
		list += *list == ':';
	}
	*out = '\0';
	return out;
}

/* The list after prepending or appending: an entry that is there already moves. To free; NULL without memory. */
static char *merge(enum env_verb verb, const char *current, const char *value)
{
	char *result = malloc(strlen(current) + strlen(value) + 2);
	char *added = malloc(strlen(value) + 1);
	char *end;

	if (result == NULL || added == NULL) {
		free(result);
		result = NULL;
		goto done;
	}
	write_entries(added, added, value, "", true);
	if (verb == ENV_PREPEND) {
		end = write_entries(result, result, added, "", true);
		write_entries(end, result, current, added, true);
	} else {
		end = write_entries(result, result, current, added, true);
		write_entries(end, result, added, "", true);
	}
done:
	free(added);
	return result;
}

static int apply(const struct env_operation *operation, const struct environment *environment)
{
	const char *current = environment->get(environment->owner, operation->name);
	char *merged;
	int rv;

	switch (operation->verb) {
	case ENV_DEFAULT:
		if (current != NULL)
			return 0;
		return environment->set(environment->owner, operation->name, operation->value);
	case ENV_SET:
		return environment->set(environment->owner, operation->name, operation->value);
	case ENV_UNSET:
		return current == NULL ? 0 : environment->unset(environment->owner, operation->name);
	case ENV_PREPEND:
	case ENV_APPEND:
		break;
	}
	merged = merge(operation->verb, current != NULL ? current : "", operation->value);
	if (merged == NULL)
		return -ENOMEM;
	rv = environment->set(environment->owner, operation->name, merged);
	free(merged);
	return rv;
}

/* Takes this operation's entries out of a list. */
static int take_out(const struct env_operation *operation, const struct environment *environment, const char *root)
{
	const char *current = environment->get(environment->owner, operation->name), *entry;
	char *ours, *end, *rest;
	int rv;

	if (current == NULL || root == NULL)
		return 0;
	ours = calloc(1, strlen(operation->value) + 2);
	rest = malloc(strlen(current) + 1);
	rv = ours == NULL || rest == NULL ? -ENOMEM : 0;
	if (rv < 0)
		goto done;
	end = ours;
	for (entry = operation->value; *entry != '\0'; entry += *entry == ':') {
		size_t length = strcspn(entry, ":");
		char *start = end;

		memcpy(start, entry, length);
		start[length] = '\0';
		if (path_is_below(start, root)) {
			end = start + length;
			*end++ = ':';
		}
		entry += length;
	}
	*end = '\0';
	write_entries(rest, rest, current, ours, false);
	if (ours[0] == '\0' || strcmp(rest, current) == 0)
		goto done;
	rv = rest[0] == '\0' ? environment->unset(environment->owner, operation->name) :
			       environment->set(environment->owner, operation->name, rest);
done:
	free(ours);
	free(rest);
	return rv;
}

static int undo(const struct env_operation *operation, const struct environment *environment, const char *root)
{
	const char *current;

	switch (operation->verb) {
	case ENV_DEFAULT:
	case ENV_SET:
		current = environment->get(environment->owner, operation->name);
		if (current == NULL || strcmp(current, operation->value) != 0)
			return 0;
		return environment->unset(environment->owner, operation->name);
	case ENV_PREPEND:
	case ENV_APPEND:
		return take_out(operation, environment, root);
	case ENV_UNSET:
		break;
	}
	return 0;
}

static bool is_left_out(const struct env_operation *operation, const struct env_place *place)
{
	if (!place->in_container || operation->scope == ENV_EVERYWHERE)
		return false;
	return operation->scope == ENV_HOST || place->takes_library == NULL ||
	       !place->takes_library(place->owner, operation->value);
}

int env_file_apply(const struct env_file *file, const struct environment *environment, const struct env_place *place)
{
	int failures = 0;

	for (size_t i = 0; i < file->count; i++) {
		const struct env_operation *operation = &file->operations[i];
		int rv = is_left_out(operation, place) ? undo(operation, environment, place->shared_root) :
							 apply(operation, environment);

		failures += rv != 0;
	}
	return failures;
}

int env_file_undo(const struct env_file *file, const struct environment *environment, const char *shared_root)
{
	int failures = 0;

	for (size_t i = file->count; i > 0; i--)
		failures += undo(&file->operations[i - 1], environment, shared_root) != 0;
	return failures;
}
