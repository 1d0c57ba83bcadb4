/* The core's tests. Each is a claim; one that does not hold is printed with its line, and the run ends with 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ask.h"
#include "catalogue.h"
#include "child.h"
#include "container.h"
#include "enroot.h"
#include "env_file.h"
#include "env_list.h"
#include "image.h"
#include "index.h"
#include "local_copy.h"
#include "miss.h"
#include "mountinfo.h"
#include "name.h"
#include "overlay.h"
#include "plugin_conf.h"
#include "root.h"
#include "runtime_bwrap.h"
#include "runtime_enroot.h"
#include "squashfs.h"
#include "squashfs_mount.h"
#include "trusted_file.h"

static int failures;
static char folder[] = "/tmp/slurm-fsx-core-XXXXXX";

static void claim(bool holds, const char *text, int line)
{
	if (holds)
		return;
	fprintf(stderr, "core_test.c:%d: does not hold: %s\n", line, text);
	failures++;
}
#define CLAIM(condition) claim(condition, #condition, __LINE__)

static bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Paths in the test's folder; four may be in use at once. */
static const char *in_folder(const char *name)
{
	static char paths[4][256];
	static int next;

	next = (next + 1) % 4;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", folder, name);
	return paths[next];
}

static const char *write_bytes(const char *name, const char *data, size_t size, mode_t mode)
{
	const char *path = in_folder(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CLAIM(fd >= 0 && write(fd, data, size) == (ssize_t)size && fchmod(fd, mode) == 0);
	if (fd >= 0)
		close(fd);
	return path;
}

static const char *write_file(const char *name, const char *text)
{
	return write_bytes(name, text, strlen(text), 0644);
}

static const char *write_script(const char *name, const char *text)
{
	char script[512];

	snprintf(script, sizeof(script), "#!/bin/sh\n%s", text);
	return write_bytes(name, script, strlen(script), 0755);
}

/* Names. */

static void names_lose_flags_and_never_become_paths(void)
{
	static const char *const wrong[] = {"", ":exec", ".", "..", "a/b", "../../etc/passwd", "a\nb", "a\tb", "#a", "\x7f"};
	char name[NAME_SIZE], longest[NAME_SIZE + 50], printable[16];

	CLAIM(name_cut("pytorch:no_exec", name) == 0 && same(name, "pytorch"));
	CLAIM(name_cut("pytorch-24.01", name) == 0 && same(name, "pytorch-24.01"));
	CLAIM(name_cut("$(reboot);`x`'\"", name) == 0 && same(name, "$(reboot);`x`'\""));
	CLAIM(name_cut("пайторч", name) == 0 && same(name, "пайторч"));
	CLAIM(name_cut("--help", name) == 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CLAIM(name_cut(wrong[i], name) == -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[300] = '\0';
	CLAIM(name_cut(longest, name) == -EINVAL);
	longest[255] = '\0';
	CLAIM(name_cut(longest, name) == 0);
	CLAIM(same(name_printable("a\nb\033[31m", printable, sizeof(printable)), "a?b?[31m"));
	CLAIM(same(name_printable(longest, printable, sizeof(printable)), "xxxxxxxxxxxx..."));
}

static void nccl_values_and_paths_are_checked(void)
{
	char path[5000];

	CLAIM(nccl_value_is_valid("off") && nccl_value_is_valid("2.28.7-1_ofi-1.17.2-aws_cuda-13.0+x"));
	CLAIM(!nccl_value_is_valid("") && !nccl_value_is_valid("a b") && !nccl_value_is_valid("a=b") && !nccl_value_is_valid("../x"));
	CLAIM(path_is_sane("/a b") && !path_is_sane("a") && !path_is_sane("") && !path_is_sane("/a\nb"));
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	CLAIM(!path_is_sane(path));
	CLAIM(path_is_below("/fsx/a", "/fsx") && path_is_below("/fsx", "/fsx") && path_is_below("/fsx/a", "/fsx/"));
	CLAIM(path_is_below("/x", "/") && !path_is_below("/fsx2", "/fsx") && !path_is_below("/", "/fsx"));
}

/* Environment files. */

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
	CLAIM(env_file_read(folder, geteuid(), &file) == -EPERM);
	if (geteuid() == 0) {
		path = write_file("theirs", "# slurm-fsx env 1\n");
		CLAIM(chown(path, 1, 1) == 0 && env_file_read(path, 0, &file) == -EPERM);
	}
}

/* The index. */

static long long mtime_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : 0;
}

static int look_up(const char *header, const char *lines, const char *name, char *path)
{
	const char *containers = in_folder("containers");
	char text[4096];
	struct index_query query = {.containers = containers, .policy = "p1", .name = name, .owner = geteuid()};

	mkdir(containers, 0755);
	snprintf(text, sizeof(text), header, mtime_of(containers));
	strncat(text, lines, sizeof(text) - strlen(text) - 1);
	query.index = write_file("index", text);
	return index_look_up(&query, path, 64);
}

static void the_index_finds_each_name_and_no_other(void)
{
	static const char header[] = "# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1 ask=0 new=2\n# more\n";
	static const char lines[] = "-x\t/i/dash\nB\t/i/B\na\t/i/a\na-b\t/i/a-b\nab\t/i/ab\nz\t/i/z\n\xc3\xa9\t/i/e\n";
	static const char *const names[] = {"-x", "B", "a", "a-b", "ab", "z", "\xc3\xa9"};
	static const char *const paths[] = {"/i/dash", "/i/B", "/i/a", "/i/a-b", "/i/ab", "/i/z", "/i/e"};
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CLAIM(look_up(header, lines, names[i], path) == 0 && same(path, paths[i]));
	CLAIM(look_up(header, lines, "", path) == -ENOENT);
	CLAIM(look_up(header, lines, "a-", path) == -ENOENT);
	CLAIM(look_up(header, lines, "zz", path) == -ENOENT);
	CLAIM(look_up(header, lines, "# more", path) == -ENOENT);
	CLAIM(look_up(header, "", "a", path) == -ENOENT);
	CLAIM(look_up(header, "a\t/last/line/without/its/end", "a", path) == 0 && same(path, "/last/line/without/its/end"));
	CLAIM(look_up(header, "a\trelative\n", "a", path) == -EINVAL);
	CLAIM(look_up(header, "a\n", "a", path) == -EINVAL);
	CLAIM(look_up(header, "a\t/longer/than/what/the/caller/has/room/for/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", "a", path) == -EINVAL);
}

static void a_stale_or_foreign_index_is_not_believed(void)
{
	static const char *const headers[] = {
		"", "# slurm-fsx index 2\n", "# slurm-fsx index 1\n", "# slurm-fsx index 1\na\t/i/a\n",
		"# slurm-fsx index 1\n# folder=1 policy=p1 complete=1 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p2 complete=1 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=0 ask=0\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1 ask=1\n",
		"# slurm-fsx index 1\n# folder=%lld policy=p1 complete=1\n",
		"# slurm-fsx index 1\n# folder=%lldx policy=p1 complete=1 ask=0\n",
	};
	char path[64];

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		CLAIM(look_up(headers[i], "a\t/i/a\n", "a", path) == -ESTALE);
	CLAIM(chmod(in_folder("index"), 0666) == 0);
	{
		struct index_query query = {in_folder("index"), in_folder("containers"), "p1", "a", geteuid()};

		CLAIM(index_look_up(&query, path, sizeof(path)) == -EPERM);
		query.index = in_folder("none");
		CLAIM(index_look_up(&query, path, sizeof(path)) == -ENOENT);
	}
}

/* plugin.conf. */

static void plugin_conf_is_current_only_for_the_configuration_it_was_made_from(void)
{
	char config[256], text[1024];
	struct plugin_conf conf;
	struct stat st;

	CLAIM(plugin_conf_read(in_folder("none"), in_folder("no.yaml"), geteuid(), &conf) == -ENOENT);
	CLAIM(conf.is_current && same(conf.index, "/fsx/containers/.slurm-fsx/index") && same(conf.policy, "default"));
	snprintf(config, sizeof(config), "%s", write_file("config.yaml", "{}\n"));
	CLAIM(plugin_conf_read(in_folder("none"), config, geteuid(), &conf) == -ENOENT && !conf.is_current);
	CLAIM(stat(config, &st) == 0);
	snprintf(text, sizeof(text), "# slurm-fsx plugin 1\nconfig=%s\nconfig_key=%llu:%llu:%lld:%lld\nfsx_root=/shared\n"
		 "unknown_name=reject\npolicy=abc\nnew=1\nnccl_profiles=documented fast\ncontainers=relative\n", config, (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino, (long long)st.st_size, mtime_of(config));
	CLAIM(plugin_conf_read(write_file("plugin.conf", text), config, geteuid(), &conf) == 0);
	CLAIM(conf.is_current && conf.reject_unknown && same(conf.fsx_root, "/shared") && same(conf.policy, "abc") &&
	      same(conf.containers, "/fsx/containers") && same(conf.nccl_profiles, "documented fast"));
	write_file("config.yaml", "{a: 1}\n");
	CLAIM(plugin_conf_read(in_folder("plugin.conf"), config, geteuid(), &conf) == 0 && !conf.is_current);
	CLAIM(plugin_conf_read(in_folder("plugin.conf"), in_folder("no.yaml"), geteuid(), &conf) == 0 && !conf.is_current);
}

/* Children. */

static int answer_slowly(void *context, int out)
{
	(void)out;
	sleep(*(unsigned int *)context);
	return 0;
}

static int answer_much(void *context, int out)
{
	char bytes[100];

	(void)context;
	memset(bytes, 'x', sizeof(bytes));
	return write(out, bytes, sizeof(bytes)) == sizeof(bytes) ? 7 : 1;
}

static void a_child_that_hangs_is_left_behind(void)
{
	char buffer[8];
	struct child_answer answer = {.buffer = buffer, .room = sizeof(buffer)};
	unsigned int seconds = 20;

	CLAIM(child_run(NULL, answer_slowly, &seconds, 50, &answer) == -ETIMEDOUT);
	CLAIM(child_run(NULL, answer_much, NULL, 5000, &answer) == 0);
	CLAIM(answer.exit_code == 7 && answer.length == 7 && same(buffer, "xxxxxxx"));
}

static void asking_python_never_goes_through_a_shell(void)
{
	char answer[256];
	struct question question = {.config = "/c.yaml", .name = "$(touch /tmp/x); a 'b'", .partition = "", .timeout_ms = 5000};

	question.command = write_script("found", "printf '/i/%s\\n' \"$4 $5 $SLURM_FSX_CONFIG $PATH\"\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_FOUND);
	CLAIM(same(answer, "/i/-- $(touch /tmp/x); a 'b' /c.yaml /usr/bin:/bin"));
	question.command = write_script("unknown", "exit 1\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_UNKNOWN);
	question.command = write_script("relative", "echo x\n");
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE);
	question.command = write_script("slow", "exec sleep 9\n");
	question.timeout_ms = 100;
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE && strstr(answer, "no answer") != NULL);
	question.command = "/nonexistent/slurm-fsx";
	question.timeout_ms = 5000;
	CLAIM(ask(&question, answer, sizeof(answer)) == ASK_TROUBLE && strstr(answer, "is missing") != NULL);
}

/* Mounts and images. */

static void mount_points_are_found_at_and_above_a_path(void)
{
	static const char text[] = "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
				   "30 22 0:5 / /fsx rw shared:3 - lustre x rw\n"
				   "31 22 0:5 / /with\\040space/x rw - tmpfs x rw\nbroken\n32 22\n";

	CLAIM(mountinfo_covers(text, "/fsx/nccl/lib") && mountinfo_covers(text, "/fsx"));
	CLAIM(!mountinfo_covers(text, "/fsx2/nccl") && !mountinfo_covers(text, "/usr/local/lib") && !mountinfo_covers(text, "/"));
	CLAIM(mountinfo_covers(text, "/with space/x/y") && !mountinfo_covers(text, "/with"));
	CLAIM(!mountinfo_covers("", "/fsx"));
}

static void an_images_own_nccl_is_seen(void)
{
	const char *root_path = in_folder("image");
	int root;

	CLAIM(mkdir(root_path, 0755) == 0);
	root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLAIM(mkdirat(root, "usr", 0755) == 0 && mkdirat(root, "usr/lib", 0755) == 0 && mkdirat(root, "opt", 0755) == 0 &&
	      mkdirat(root, "usr/lib/x86_64-linux-gnu", 0755) == 0 && mkdirat(root, "fsx", 0755) == 0);
	CLAIM(!image_has_nccl(root, NULL, "/fsx") && !image_has_nccl(root, "/opt:/fsx::x", "/fsx"));
	CLAIM(symlinkat("/nowhere", root, "opt/libnccl.so.2") == 0);
	CLAIM(!image_has_nccl(root, NULL, "/fsx") && image_has_nccl(root, "/a:/opt", "/fsx"));
	CLAIM(symlinkat("/nowhere", root, "fsx/libnccl.so.2") == 0 && !image_has_nccl(root, "/fsx", "/fsx"));
	CLAIM(symlinkat("/opt", root, "lib64") == 0 && image_has_nccl(root, NULL, "/fsx"));
	CLAIM(unlinkat(root, "lib64", 0) == 0 && symlinkat("x", root, "usr/lib/x86_64-linux-gnu/libnccl.so") == 0);
	CLAIM(image_has_nccl(root, NULL, "/fsx"));
	close(root);
}

static bool holds(const struct words *words, const char *first, const char *second, const char *third)
{
	for (size_t i = 0; i + 2 < words->count; i++)
		if (same(words->items[i], first) && same(words->items[i + 1], second) && (third == NULL || same(words->items[i + 2], third)))
			return true;
	return false;
}

static void container_mounts_are_pairs_of_absolute_paths(void)
{
	static const char *const wrong[] = {"", "a:/b", "/a:b", "/a:", ":/b", "/a:/b,", "/a:/../b", "/a:/", "/a://", "/a:/b/.."};
	struct container_mounts mounts;
	char *bad = NULL;

	CLAIM(container_mounts_parse("/a:/b:ro,/c,/d:/e:rw+rprivate,/f:/g:rprivate+ro", &mounts, &bad) == 0 && mounts.count == 4);
	CLAIM(same(mounts.items[0].source, "/a") && same(mounts.items[0].target, "/b") && mounts.items[0].read_only);
	CLAIM(same(mounts.items[1].target, "/c") && !mounts.items[1].read_only && !mounts.items[2].read_only && mounts.items[3].read_only);
	container_mounts_free(&mounts);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CLAIM(container_mounts_parse(wrong[i], &mounts, &bad) == -EINVAL && bad != NULL);
		free(bad);
	}
}

static void bwrap_makes_room_for_mount_points_that_the_image_lacks(void)
{
	struct container_mounts mounts = {0};
	struct container container = {.image = "/i.sqsh", .fsx_root = "/fsx", .home = "/home/u", .work_folder = "/usr/nowhere",
				      .mounts = &mounts};
	struct words words = {0};
	char root_path[256], home_other[300];
	int root;

	snprintf(root_path, sizeof(root_path), "%s", in_folder("image2"));
	snprintf(home_other, sizeof(home_other), "%s/home/other", root_path);
	CLAIM(mkdir(root_path, 0755) == 0);
	root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLAIM(mkdirat(root, "home", 0755) == 0 && mkdirat(root, "home/other", 0755) == 0 && mkdirat(root, "usr", 0755) == 0 &&
	      mkdirat(root, "proc", 0755) == 0 && symlinkat("usr/bin", root, "bin") == 0);
	container.root = root_path;
	CLAIM(bwrap_words(&container, "/usr/bin/bwrap", root, &words) == 0);
	CLAIM(same(words.items[0], "/usr/bin/bwrap"));
	CLAIM(holds(&words, "--dir", "/home", NULL) && holds(&words, "--ro-bind", home_other, "/home/other"));
	CLAIM(holds(&words, "--symlink", "usr/bin", "/bin") && holds(&words, "--bind-try", "/fsx", "/fsx"));
	CLAIM(holds(&words, "--bind-try", "/home/u", "/home/u") && holds(&words, "--bind", "/proc", "/proc"));
	CLAIM(same(words.items[words.count - 2], "--chdir") && same(words.items[words.count - 1], "/"));
	words_free(&words);
	CLAIM(enroot_words(&container, "/usr/bin/enroot", &words) == 0 && same(words.items[1], "start"));
	words_free(&words);
	close(root);
}

static void only_a_squashfs_that_the_user_may_read_is_opened(void)
{
	struct user user = {.uid = 65534, .gid = 65534};
	const struct user *nobody = geteuid() == 0 ? &user : NULL;
	const char image[128] = {[0] = 'h', 's', 'q', 's', [28] = 4, [40] = (char)128};
	int fd;

	CLAIM(chmod(folder, 0755) == 0);
	fd = squashfs_open(nobody, write_bytes("good.sqsh", image, sizeof(image), 0644), 5000);
	CLAIM(fd >= 0);
	if (fd >= 0)
		close(fd);
	CLAIM(squashfs_open(nobody, write_file("bad.sqsh", "elf"), 5000) == -ENOEXEC);
	CLAIM(squashfs_open(nobody, write_bytes("part.sqsh", image, sizeof(image) - 1, 0644), 5000) == -ENODATA);
	CLAIM(squashfs_open(nobody, folder, 5000) == -ENOEXEC);
	CLAIM(squashfs_open(nobody, in_folder("none"), 5000) == -ENOENT);
	CLAIM(squashfs_check_path(in_folder("good.sqsh")) == 0);
	CLAIM(squashfs_check_path(in_folder("part.sqsh")) == -ENODATA);
	CLAIM(squashfs_check_path(in_folder("none")) == -ENOENT);
	CLAIM(symlink("good.sqsh", in_folder("link.sqsh")) == 0);
	CLAIM(squashfs_check_path(in_folder("link.sqsh")) == -ELOOP);
	CLAIM(mkfifo(in_folder("fifo.sqsh"), 0644) == 0 && squashfs_check_path(in_folder("fifo.sqsh")) == -ENOEXEC);
	if (nobody != NULL)
		CLAIM(squashfs_open(nobody, write_bytes("private.sqsh", "hsqs", 4, 0600), 5000) == -EACCES);
}

/* Prepared roots. */

static void a_root_is_named_by_what_an_overlay_can_carry(void)
{
	static const char *const bad[] = {"", "a,b", "a:b", "a b", "a\\b", "a/b", "a\nb"};
	char longest[300];
	struct root root;

	CLAIM(root_name(folder, 2001, "pyxis_12_pytorch-24.01+x@y", &root) == 0);
	CLAIM(same(root.id, "2001.pyxis_12_pytorch-24.01+x@y") && strstr(root.upper, "/roots/2001.pyxis_12") != NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CLAIM(root_name(folder, 2001, bad[i], &root) == -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CLAIM(root_name(folder, 2001, longest, &root) == -EINVAL);
	CLAIM(root_name("/with,comma", 2001, "a", &root) == -EINVAL && root_name("relative", 2001, "a", &root) == -EINVAL);
}

static void what_is_written_down_of_a_root_is_read_again(void)
{
	struct root_record record = {.uid = 2001, .gid = 7, .keeps_writes = true, .target = "/data/pyxis_a",
				     .image = "/fsx/a b=c.sqsh", .identity = "1:2:3", .server = 17, .server_start = 99};
	struct root_record again;
	struct root root;

	CLAIM(root_make_state(in_folder("state/of/roots")) == 0);
	CLAIM(root_name(in_folder("state/of/roots"), geteuid(), "pyxis_a", &root) == 0);
	CLAIM(root_record_read(&root, &again) == -ENOENT && root_discard(&root) == 0);
	CLAIM(root_make(&root, geteuid(), getegid()) == 0 && root_make(&root, geteuid(), getegid()) == 0);
	CLAIM(root_record_write(&root, &record) == 0 && root_record_read(&root, &again) == 0);
	CLAIM(again.uid == 2001 && again.gid == 7 && again.keeps_writes && again.server == 17 && again.server_start == 99);
	CLAIM(same(again.target, record.target) && same(again.image, record.image) && same(again.identity, "1:2:3"));
	CLAIM(!root_has_job(&root, 5) && root_add_job(&root, 5) == 0 && root_has_job(&root, 5));
	/* No step of job 4000000000 runs, and no prolog of it has been here. */
	CLAIM(root_add_job(&root, 4000000000) == 0 && !root_is_shared(&root, 5, folder));
	CLAIM(mkdir(in_folder("jobs"), 0755) == 0);
	write_file("jobs/4000000000.env", "");
	CLAIM(root_is_shared(&root, 5, folder) && !root_is_shared(&root, 4000000000, folder));
	CLAIM(root_drop_job(&root, 5) && !root_has_job(&root, 5));
	CLAIM(root_discard(&root) == 0 && root_record_read(&root, &again) == -ENOENT);
}

static void a_root_is_locked_by_one_at_a_time(void)
{
	struct root root;
	int lock, other;

	CLAIM(root_name(in_folder("state/of/roots"), geteuid(), "pyxis_b", &root) == 0);
	lock = root_lock(&root, 1000);
	CLAIM(lock >= 0 && root_lock(&root, 20) == -ETIMEDOUT);
	root_unlock(&root, lock, true);
	other = root_lock(&root, 1000);
	CLAIM(other >= 0);
	root_unlock(&root, other, false);
}

static void a_process_is_known_by_its_start(void)
{
	unsigned long long start = process_start(getpid());
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	CLAIM(start > 0 && process_start(getpid()) == start && process_start(0) == 0 && process_start(-1) == 0);
	process_end(pid, process_start(pid) + 1);
	CLAIM(process_start(pid) != 0);
	process_end(pid, process_start(pid));
	waitpid(pid, NULL, 0);
	CLAIM(process_start(pid) == 0);
}

static void a_container_lies_in_its_users_own_empty_directory(void)
{
	struct user user = {.uid = 65534, .gid = 65534};
	bool is_root = geteuid() == 0;
	char path[PATH_MAX];
	int fd;

	if (!is_root)
		user = (struct user){.uid = geteuid(), .gid = getegid()};
	CLAIM(mkdir(in_folder("data"), 0755) == 0 && chown(in_folder("data"), user.uid, user.gid) == 0);
	fd = target_open(&user, in_folder("data"), "pyxis_a", 5000, path);
	CLAIM(fd >= 0 && same(path, in_folder("data/pyxis_a")));
	if (fd >= 0)
		close(fd);
	fd = target_open(&user, in_folder("data"), "pyxis_a", 5000, path);
	CLAIM(fd >= 0);
	if (fd >= 0)
		close(fd);
	write_file("data/pyxis_a/file", "");
	CLAIM(target_open(&user, in_folder("data"), "pyxis_a", 5000, path) == -ENOTEMPTY);
	CLAIM(symlink("/", in_folder("data/pyxis_link")) == 0);
	CLAIM(target_open(&user, in_folder("data"), "pyxis_link", 5000, path) < 0);
	CLAIM(symlink("/etc", in_folder("data/elsewhere")) == 0);
	if (is_root) {
		CLAIM(target_open(&user, in_folder("data/elsewhere"), "pyxis_a", 5000, path) == -EACCES);
		CLAIM(mkdir(in_folder("data/roots"), 0755) == 0);
		CLAIM(target_open(&user, in_folder("data"), "roots", 5000, path) == -EPERM);
	}
	CLAIM(target_open(&user, in_folder("none"), "pyxis_a", 5000, path) == -ENOENT);
}

static void enroot_gets_what_pyxis_gives_it(void)
{
	char *own[] = {"PATH=/own", "HOME=/own", "SLURM_CONF=/own", "ENROOT_DATA_PATH=/own", NULL};
	char *theirs[] = {"PATH=/theirs", "HOME=/theirs", "ENROOT_DATA_PATH=/theirs", "ENROOT_CONFIG_PATH=/theirs",
			  "SLURM_JOB_ID=1", NULL};
	struct words words = {0};
	char said[64] = "", path[PATH_MAX];
	const char *program;

	enroot_environment(own, theirs, &words);
	CLAIM(words.count == 5 && same(words.items[0], "PATH=/own") && same(words.items[1], "ENROOT_DATA_PATH=/own"));
	CLAIM(same(words.items[2], "HOME=/theirs") && same(words.items[4], "SLURM_JOB_ID=1"));
	CLAIM(mkdir(in_folder("bin"), 0755) == 0);
	program = write_script("bin/enroot", "ENROOT_DATA_PATH=/data/$HOME\n. \"$ENROOT_LIBRARY_PATH/common.sh\"\nexit 9\n");
	snprintf(path, sizeof(path), "none:%s/none:%s/bin", folder, folder);
	{
		char found[PATH_MAX];

		CLAIM(enroot_find(path, found) != NULL && same(found, program));
		CLAIM(enroot_find("/none", found) == NULL);
	}
	CLAIM(enroot_data_path(NULL, program, &words, folder, 5000, path) == 0 && same(path, "/data//theirs"));
	write_script("bin/enroot", "echo first; echo \"the last\tword\" >&2; exit 1\n");
	CLAIM(enroot_data_path(NULL, program, &words, folder, 5000, path) == -EIO);
	CLAIM(enroot_create(NULL, program, &words, "a", "/i", 5000, said, sizeof(said)) == -EIO && same(said, "the last?word"));
	write_script("bin/enroot", "/bin/sleep 100\n");
	CLAIM(enroot_create(NULL, program, &words, "a", "/i", 50, said, sizeof(said)) == -ETIMEDOUT);
	words_free(&words);
}

static void an_image_that_is_no_path_is_looked_up_by_its_files_name(void)
{
	char name[NAME_SIZE];

	CLAIM(name_of_image("pytorch", name) == 0 && same(name, "pytorch"));
	CLAIM(name_of_image("docker://pytorch-24.01", name) == 0 && same(name, "pytorch-24.01"));
	CLAIM(name_of_image("docker://nvcr.io/nvidia/pytorch:24.03-py3", name) == 0 &&
	      same(name, "nvcr.io_nvidia_pytorch-24.03-py3"));
	CLAIM(name_of_image("nvcr.io#nvidia/nemo", name) == 0 && same(name, "nvcr.io_nvidia_nemo-latest"));
	CLAIM(name_of_image("ubuntu:24.04", name) < 0 && name_of_image("localhost:5000/a:1", name) < 0);
	CLAIM(name_of_image("nvcr.io/a@sha256:00", name) < 0 && name_of_image("nvcr.io/a_b:1", name) < 0);
}

static void a_local_copy_counts_only_where_it_is_the_same(void)
{
	/* A superblock alone: version 4, and as many bytes as it has itself. */
	static const char whole[96] = {'h', 's', 'q', 's', [28] = 4, [40] = 96};
	static const char cut[96] = {'h', 's', 'q', 's', [28] = 4, [40] = 97};
	static const struct timespec then[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 1000, .tv_nsec = 7}};
	static const struct timespec later[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 1000, .tv_nsec = 8}};
	char containers[256], stage[256], path[PATH_MAX];
	struct stat st;
	int source, copy;

	snprintf(containers, sizeof(containers), "%s", in_folder(""));
	snprintf(stage, sizeof(stage), "%s", in_folder("stage"));

	CLAIM(mkdir(stage, 0777) == 0 && mkdir(in_folder("stage/slurm-fsx-images"), 0755) == 0);
	snprintf(path, sizeof(path), "%s", write_bytes("image.sqsh", whole, sizeof(whole), 0644));
	source = open(path, O_RDONLY | O_CLOEXEC);
	CLAIM(source >= 0 && futimens(source, then) == 0);
	CLAIM(local_copy_open(NULL, containers, "", path, source) == -ENOENT);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ENOENT);
	write_bytes("stage/slurm-fsx-images/image.sqsh", whole, sizeof(whole), 0644);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), later, 0) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ESTALE);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), then, 0) == 0);
	copy = local_copy_open(NULL, containers, stage, path, source);
	CLAIM(copy >= 0 && fstat(copy, &st) == 0 && st.st_atim.tv_sec > 1000 && st.st_mtim.tv_nsec == 7);
	if (copy >= 0)
		close(copy);
	write_bytes("stage/slurm-fsx-images/image.sqsh", cut, sizeof(cut), 0644);
	CLAIM(utimensat(AT_FDCWD, in_folder("stage/slurm-fsx-images/image.sqsh"), then, 0) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -ENODATA);
	/* A file of that name elsewhere is another image. */
	CLAIM(local_copy_open(NULL, "/elsewhere", stage, path, source) == -ENOENT);
	CLAIM(chmod(in_folder("stage/slurm-fsx-images"), 0777) == 0);
	CLAIM(local_copy_open(NULL, containers, stage, path, source) == -EPERM);
	close(source);
}

static void marks_and_caches_lie_in_roots_own_folders(void)
{
	const char *containers = in_folder("shared-images");
	char image[512], where[256];
	struct stat st;

	snprintf(where, sizeof(where), "%s", containers);
	CLAIM(mkdir(where, 0777) == 0);
	snprintf(image, sizeof(image), "%s/a.sqsh", where);
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -ENOENT);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx"), &st) < 0);
	write_file("shared-images/a.sqsh", "");
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == 0 && catalogue_mark_use(where, image, "lab", 12, 5000) == 0);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/lab.12"), &st) == 0 && st.st_size == 0);
	CLAIM(catalogue_mark_use(where, image, NULL, 12, 5000) == 0 && catalogue_mark_use(where, image, "../lab", 13, 5000) == 0);
	CLAIM(stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/12"), &st) == 0 &&
	      stat(in_folder("shared-images/.slurm-fsx/uses/a.sqsh/13"), &st) == 0);
	CLAIM(catalogue_mark_use(where, "/elsewhere/a.sqsh", "lab", 12, 5000) == -EINVAL);
	snprintf(image, sizeof(image), "%s/sub/a.sqsh", where);
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -EINVAL);
	CLAIM(catalogue_make_cache(where, geteuid(), getegid(), 5000) == 0 &&
	      catalogue_make_cache(where, geteuid(), getegid(), 5000) == 0);
	snprintf(image, sizeof(image), "%s/.slurm-fsx/caches/%u", where, geteuid());
	CLAIM(stat(image, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 07777) == 0700);
	/* A folder that others can write to could be anything by now. */
	CLAIM(chmod(in_folder("shared-images/.slurm-fsx/uses"), 0777) == 0);
	snprintf(image, sizeof(image), "%s/b.sqsh", where);
	write_file("shared-images/b.sqsh", "");
	CLAIM(catalogue_mark_use(where, image, "lab", 12, 5000) == -EPERM);
	CLAIM(rename(in_folder("shared-images/.slurm-fsx"), in_folder("shared-images/kept")) == 0 &&
	      symlink("kept", in_folder("shared-images/.slurm-fsx")) == 0);
	CLAIM(catalogue_make_cache(where, 77, 77, 5000) < 0);
}

static void misses_are_counted_and_no_link_is_followed(void)
{
	struct stat st;

	for (int i = 0; i < 3; i++)
		CLAIM(miss_count(folder) == 0);
	CLAIM(stat(in_folder("resolution-misses"), &st) == 0 && st.st_size == 3);
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(symlink("victim", in_folder("resolution-misses")) == 0);
	CLAIM(miss_count(folder) == -ELOOP && access(in_folder("victim"), F_OK) < 0);
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(mkfifo(in_folder("resolution-misses"), 0600) == 0);
	CLAIM(miss_count(folder) == -ENXIO); /* nobody reads it: never a hang */
	CLAIM(unlink(in_folder("resolution-misses")) == 0);
	CLAIM(miss_count(in_folder("nowhere")) == -ENOENT);
}

int main(void)
{
	if (mkdtemp(folder) == NULL)
		return 1;
	names_lose_flags_and_never_become_paths();
	nccl_values_and_paths_are_checked();
	operations_do_what_they_say();
	scopes_keep_operations_out_of_containers();
	what_an_outer_step_put_on_a_list_leaves_with_the_operation();
	undoing_leaves_what_the_user_made();
	long_values_stay_whole();
	foreign_and_hostile_files_are_left_alone();
	the_index_finds_each_name_and_no_other();
	a_stale_or_foreign_index_is_not_believed();
	plugin_conf_is_current_only_for_the_configuration_it_was_made_from();
	a_child_that_hangs_is_left_behind();
	asking_python_never_goes_through_a_shell();
	mount_points_are_found_at_and_above_a_path();
	an_images_own_nccl_is_seen();
	container_mounts_are_pairs_of_absolute_paths();
	bwrap_makes_room_for_mount_points_that_the_image_lacks();
	only_a_squashfs_that_the_user_may_read_is_opened();
	a_root_is_named_by_what_an_overlay_can_carry();
	what_is_written_down_of_a_root_is_read_again();
	a_root_is_locked_by_one_at_a_time();
	a_process_is_known_by_its_start();
	a_container_lies_in_its_users_own_empty_directory();
	enroot_gets_what_pyxis_gives_it();
	an_image_that_is_no_path_is_looked_up_by_its_files_name();
	a_local_copy_counts_only_where_it_is_the_same();
	marks_and_caches_lie_in_roots_own_folders();
	misses_are_counted_and_no_link_is_followed();
	{
		char command[64];

		snprintf(command, sizeof(command), "rm -rf %s", folder);
		if (system(command) != 0)
			failures++;
	}
	printf("core_test: %s\n", failures == 0 ? "all claims hold" : "FAILED");
	return failures == 0 ? 0 : 1;
}
