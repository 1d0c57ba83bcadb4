#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "env_file.h"
#include "env_list.h"

static const char *applied(const char *text, struct env_list *list, const struct env_place *place)
{
	struct env_file file = {0};
	struct environment environment = env_list_environment(list);
	char *copy = strdup(text);

	if (env_file_parse(copy, strlen(copy), &file) == 0)
		CLAIM(env_file_apply(&file, &environment, place) == 0);
	env_file_free(&file);
	return environment.get(list, "L");
}

static void operations_do_what_they_say(void)
{
	static const struct {
		const char *before; /* NULL = unset */
		const char *operations;
		const char *after;
	} cases[] = {
		{NULL, "default L=a\n", "a"},
		{"", "default L=a\n", ""},
		{"x", "set L=a=b c\n", "a=b c"},
		{"x", "set L=\n", ""},
		{"x", "unset L\n", NULL},
		{NULL, "unset L\n", NULL},
		{"b:c", "prepend L=a\n", "a:b:c"},
		{"b:a:c", "prepend L=a\n", "a:b:c"},
		{"b:a:c", "append L=a\n", "b:c:a"},
		{"b::c:", "prepend L=:a::d:a:\n", "a:d:b:c"},
		{"b:b", "append L=c\n", "b:c"},
		{NULL, "prepend L=\n", ""},
		{NULL, "append L=a:b\nprepend L=b\n", "b:a"},
		{"ab:b", "prepend L=b:a\n", "b:a:ab"},
		{"x", "set L=1\nset L =2\nset L\nunset L=3\nSET L=4\nset  L=5\nset 1L=6\nset L-=7\nfoo set L=8\n", "1"},
		{"x", "host set L=h\n", "h"},
		{"x", "library set L=l\n", "l"},
		{"x", "host library set L=l\n", "x"},
		{"x", "host\nlibrary \nset\n\n", "x"},
		{"x", "set L=last line without its end", "last line without its end"},
	};
	const struct env_place node = {0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct env_list list = {0};
		struct environment environment = env_list_environment(&list);
		char text[512];
		const char *after;

		if (cases[i].before != NULL)
			environment.set(&list, "L", cases[i].before);
		snprintf(text, sizeof(text), "# slurm-fsx env 1\n%s", cases[i].operations);
		after = applied(text, &list, &node);
		if (!(after == NULL && cases[i].after == NULL) && !same(after, cases[i].after)) {
			fprintf(stderr, "case %zu: %s\n", i, after != NULL ? after : "(unset)");
			CLAIM(!"an operation does what it says");
		}
		env_list_free(&list);
	}
}

static bool takes(void *owner, const char *value)
{
	return same(owner, value);
}

static void scopes_keep_operations_out_of_containers(void)
{
	struct env_place place = {.in_container = true};
	struct env_list list = {0};

	CLAIM(same(applied("# slurm-fsx env 1\nset L=1\nhost set L=2\nlibrary set L=3\n", &list, &place), "1"));
	place.owner = (void *)(size_t)"3";
	place.takes_library = takes;
	CLAIM(same(applied("# slurm-fsx env 1\nset L=1\nlibrary set L=3\nlibrary set L=4\n", &list, &place), "3"));
	env_list_free(&list);
}

static void what_an_outer_step_put_on_a_list_leaves_with_the_operation(void)
{
	static const char text[] = "# slurm-fsx env 1\nlibrary prepend L=/fsx/nccl/lib:/usr/local/lib:/fsx/b\n";
	const struct env_place place = {.in_container = true, .shared_root = "/fsx"};
	struct env_list list = {0};
	struct environment environment = env_list_environment(&list);

	environment.set(&list, "L", "/fsx/nccl/lib:/usr/local/lib:/fsx/b:/fsx/mine");
	CLAIM(same(applied(text, &list, &place), "/usr/local/lib:/fsx/mine"));
	environment.set(&list, "L", "/usr/local/lib::/x");
	CLAIM(same(applied("# slurm-fsx env 1\nhost append L=/usr/local/lib\n", &list, &place), "/usr/local/lib::/x"));
	environment.set(&list, "L", "/fsx/b:/fsx/nccl/lib");
	CLAIM(applied(text, &list, &place) == NULL);
	env_list_free(&list);
}

static void undoing_leaves_what_the_user_made(void)
{
	struct env_file file = {0};
	struct env_list list = {0};
	struct environment environment = env_list_environment(&list);
	const struct env_place node = {0};
	char *text = strdup("# slurm-fsx env 1\ndefault A=1\nset B=2\ndefault USER=x\nprepend L=/fsx/lib:/usr/local/lib\nunset GONE\n");

	environment.set(&list, "USER", "mine");
	environment.set(&list, "L", "/mine");
	CLAIM(env_file_parse(text, strlen(text), &file) == 0 && env_file_apply(&file, &environment, &node) == 0);
	CLAIM(same(environment.get(&list, "L"), "/fsx/lib:/usr/local/lib:/mine") && same(environment.get(&list, "B"), "2"));
	CLAIM(env_file_undo(&file, &environment, "/fsx") == 0);
	CLAIM(environment.get(&list, "A") == NULL && environment.get(&list, "B") == NULL);
	CLAIM(same(environment.get(&list, "USER"), "mine") && same(environment.get(&list, "L"), "/usr/local/lib:/mine"));
	env_file_free(&file);
	env_list_free(&list);
}

static void long_values_stay_whole(void)
{
	const struct env_place node = {0};
	struct env_list list = {0};
	struct environment environment = env_list_environment(&list);
	char *value = malloc(200001);
	const char *after;

	for (size_t i = 0; i < 200000; i++)
		value[i] = i % 10000 == 0 ? ':' : (char)('a' + i / 10000);
	value[200000] = '\0';
	environment.set(&list, "L", value);
	after = applied("# slurm-fsx env 1\nprepend L=/new\n", &list, &node);
	CLAIM(after != NULL && strncmp(after, "/new:", 5) == 0 && strlen(after) == strlen("/new") + 200000);
	env_list_free(&list);
	free(value);
}

static void foreign_and_hostile_files_are_left_alone(void)
{
	static const char nul[] = "# slurm-fsx env 1\nset L=a\0b\nset M=2\n";
	struct env_file file = {0};
	const char *path;
	char *large = calloc(1, 2 * 1024 * 1024);

	CLAIM(env_file_read(in_folder("none"), geteuid(), &file) == -ENOENT);
	CLAIM(env_file_read(write_file("empty", ""), geteuid(), &file) == -EINVAL);
	CLAIM(env_file_read(write_file("foreign", "# slurm-fsx env 12\nset A=1\n"), geteuid(), &file) == -EINVAL);
	CLAIM(env_file_read(write_file("short", "# slurm-fsx en"), geteuid(), &file) == -EINVAL);
	CLAIM(env_file_read(write_file("bare", "# slurm-fsx env 1"), geteuid(), &file) == 0 && file.count == 0);
	env_file_free(&file);
	CLAIM(env_file_read(write_bytes("nul", nul, sizeof(nul) - 1, 0644), geteuid(), &file) == 0 && file.count == 1 &&
	      same(file.operations[0].name, "M"));
	env_file_free(&file);
	CLAIM(env_file_read(write_bytes("shared", nul, sizeof(nul) - 1, 0664), geteuid(), &file) == -EPERM);
	memset(large, 'x', 2 * 1024 * 1024);
	CLAIM(env_file_read(write_bytes("large", large, 2 * 1024 * 1024, 0644), geteuid(), &file) == -EFBIG);
	free(large);
	path = in_folder("fifo");
	CLAIM(mkfifo(path, 0644) == 0 && env_file_read(path, geteuid(), &file) == -EPERM);
	path = in_folder("link");
	CLAIM(symlink("bare", path) == 0 && env_file_read(path, geteuid(), &file) == -ELOOP);
	CLAIM(env_file_read(test_folder, geteuid(), &file) == -EPERM);
	if (geteuid() == 0) {
		path = write_file("theirs", "# slurm-fsx env 1\n");
		CLAIM(chown(path, 1, 1) == 0 && env_file_read(path, 0, &file) == -EPERM);
	}
}

void env_file_tests(void)
{
	operations_do_what_they_say();
	scopes_keep_operations_out_of_containers();
	what_an_outer_step_put_on_a_list_leaves_with_the_operation();
	undoing_leaves_what_the_user_made();
	long_values_stay_whole();
	foreign_and_hostile_files_are_left_alone();
}
