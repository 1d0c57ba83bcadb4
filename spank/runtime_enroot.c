#include "runtime_enroot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "name.h"

static void add_mount(struct words *words, const char *source, const char *target, const char *options)
{
	char *text = NULL;

	/* enroot reads fstab fields: `SRC:DST:OPTIONS`. */
	if (asprintf(&text, "%s:%s:%s", source, target, options) < 0) {
		words->failed = true;
		return;
	}
	words_add(words, "--mount");
	words_add(words, text);
	free(text);
}

int enroot_words(const struct container *container, const char *enroot, struct words *words)
{
	words_add(words, enroot);
	words_add(words, "start");
	if (container->home != NULL)
		add_mount(words, container->home, container->home, "x-create=dir,rbind,rw,nofail");
	add_mount(words, container->fsx_root, container->fsx_root, "x-create=dir,rbind,rw,nofail");
	/* enroot's own /tmp is fresh, and stays so. */
	if (!path_is_below(container->work_folder, container->fsx_root) && strcmp(container->work_folder, "/") != 0 &&
	    strcmp(container->work_folder, "/tmp") != 0)
		add_mount(words, container->work_folder, container->work_folder, "x-create=dir,rbind,rw,nofail");
	if (container->script != NULL)
		add_mount(words, container->script, container->script, "x-create=file,bind,ro");
	if (container->pmix != NULL)
		add_mount(words, container->pmix, container->pmix, "x-create=dir,rbind,rw,nofail");
	for (size_t i = 0; i < container->mounts->count; i++)
		add_mount(words, container->mounts->items[i].source, container->mounts->items[i].target,
			  container->mounts->items[i].read_only ? "x-create=auto,rbind,ro" : "x-create=auto,rbind");
	return words->failed ? -ENOMEM : 0;
}

void enroot_add_command(const struct container *container, struct words *words)
{
	words_add(words, container->image);
	/* enroot has no option for it. The folder and the task are arguments: the shell reads this text alone. */
	words_add(words, "/bin/sh");
	words_add(words, "-c");
	words_add(words, "cd \"$0\" 2>/dev/null; exec \"$@\"");
	words_add(words, container->work_folder);
}
