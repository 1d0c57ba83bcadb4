#include "name.h"

#include <errno.h>
#include <limits.h>
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
