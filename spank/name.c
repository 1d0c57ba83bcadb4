#include "name.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static bool is_control(char c)
{
	unsigned char byte = (unsigned char)c;

	return byte < 0x20 || byte == 0x7f;
}

static bool has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if (is_control(*text))
			return true;
	return false;
}

int name_cut(const char *text, char name[NAME_SIZE])
{
	size_t length = strcspn(text, ":");

	if (length == 0 || length >= NAME_SIZE)
		return -EINVAL;
	memcpy(name, text, length);
	name[length] = '\0';
	if (name[0] == '#' || strchr(name, '/') != NULL || has_control(name))
		return -EINVAL;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return 0;
}

const char *name_printable(const char *text, char *out, size_t size)
{
	size_t i;

	for (i = 0; text[i] != '\0' && i + 4 < size; i++)
		out[i] = is_control(text[i]) ? '?' : text[i];
	if (text[i] != '\0') {
		memcpy(out + i, "...", 3);
		i += 3;
	}
	out[i] = '\0';
	return out;
}

bool nccl_value_is_valid(const char *value)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-";
	size_t length = strlen(value);

	/* As long as a version's id may be (slurm_fsx_tools/nccl/manifest.py). */
	return length >= 1 && length <= 100 && strspn(value, allowed) == length;
}

bool path_is_sane(const char *path)
{
	return path[0] == '/' && strlen(path) < PATH_MAX && !has_control(path);
}

bool path_is_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	while (length > 1 && folder[length - 1] == '/')
		length--;
	if (strncmp(path, folder, length) != 0)
		return false;
	return path[length] == '\0' || path[length] == '/' || folder[length - 1] == '/';
}

const char *path_file_in(const char *path, const char *folder)
{
	const char *file = strrchr(path, '/');
	size_t length = strlen(folder);

	while (length > 1 && folder[length - 1] == '/')
		length--;
	if (file == NULL || (size_t)(file - path) != length || strncmp(path, folder, length) != 0 || file[1] == '\0' ||
	    file[1] == '.' || strlen(file + 1) > NAME_MAX)
		return NULL;
	return file + 1;
}

int name_of_image(const char *image, char name[NAME_SIZE])
{
	static const char scheme[] = "docker://", plain[] = "abcdefghijklmnopqrstuvwxyz0123456789.-/#:";
	const char *path, *colon;
	size_t length;

	if (strncmp(image, scheme, sizeof(scheme) - 1) == 0)
		image += sizeof(scheme) - 1;
	path = strpbrk(image, "/#");
	if (path == NULL && strchr(image, ':') == NULL)
		return name_cut(image, name);
	/* Without a registry, with a port, a digest or a character that is escaped in files' names: Python's to know. */
	length = path != NULL ? (size_t)(path - image) : 0;
	colon = strrchr(image, ':');
	if (length == 0 || memchr(image, '.', length) == NULL || memchr(image, ':', length) != NULL)
		return -EINVAL;
	length = colon != NULL ? (size_t)(colon - image) : strlen(image);
	if (strspn(image, plain) < length || strchr(image, '@') != NULL ||
	    snprintf(name, NAME_SIZE, "%.*s-%s", (int)length, image, colon != NULL ? colon + 1 : "latest") >= NAME_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		if (name[i] == '/' || name[i] == '#')
			name[i] = '_';
	return 0;
}
