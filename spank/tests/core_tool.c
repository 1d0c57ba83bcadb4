/*
 * The core's readers as a program, so that a Python test can feed the same files to both languages.
 *
 *   core_tool index INDEX CONTAINERS POLICY NAME
 *       prints the path, exit 0; prints `unknown` or `stale` or an error's text to stderr, exit 1
 *   core_tool env FILE [--container] [--library] [--fsx-root=FOLDER]  < NAME=VALUE lines
 *       applies FILE to the environment on standard input (separated by NUL if it holds one, else by newlines) and
 *       prints the result, sorted, separated the same way. --container leaves `host` operations out, and `library` ones
 *       too, unless --library says that the image takes them; what is left out is undone: entries of lists only
 *       below --fsx-root. Exit 1 if the file is not believed: nothing is applied.
 *   core_tool operations FILE
 *       prints one line `SCOPE VERB NAME VALUE` for each operation that parses; the scope is `-` where there is none
 *   core_tool name TEXT
 *       prints the name without Pyxis's flags, exit 0; exit 1 if it can name no image
 *   core_tool conf FILE CONFIG
 *       prints plugin.conf as read: fsx_root, containers, index, policy, unknown_name, prepare (0 mount, 1 unpack, 2 off),
 *       state_dir, stage, current=0|1, a line each
 *   core_tool root STATE_DIR UID CONTAINER
 *       prints what is written down of a prepared root, a line each
 *   core_tool prepare STATE_DIR RUN_DIR ENROOT UID JOB CONTAINER IMAGE [global] [unpack] [stage=FOLDER]
 *       prepares a container's root, as root, and prints how: before, mounted, unpacked, older, foreign; else the reason
 *       to stderr, exit 1
 *   core_tool release STATE_DIR RUN_DIR JOB
 *       takes a job's roots away and prints how many
 *   core_tool mark CONTAINERS IMAGE JOB, core_tool cache CONTAINERS UID GID
 *       leaves the mark of a use, or a user's folder, in the catalogue
 *   core_tool mounted PATH < mountinfo
 *       exit 0 if a mount point other than / stands at or above PATH, else 1
 *   core_tool image FILE
 *       exit 0 if it is a whole squashfs image; else prints `none` or `part` or an error's text to stderr, exit 1
 *   core_tool nccl IMAGE_ROOT FSX_ROOT [LD_LIBRARY_PATH]
 *       exit 0 if the image has an NCCL of its own, else 1
 *
 * Files may belong to root or to whoever runs this. Exit 2 for wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalogue.h"
#include "enroot.h"
#include "env_file.h"
#include "env_list.h"
#include "image.h"
#include "index.h"
#include "mountinfo.h"
#include "name.h"
#include "plugin_conf.h"
#include "prepare.h"
#include "root.h"
#include "squashfs.h"
#include "trusted_file.h"

enum { STDIN_LIMIT = 64 * 1024 * 1024 };

static int trouble(int rv)
{
	fprintf(stderr, "%s\n", rv == -ENOENT ? "unknown" : rv == -ESTALE ? "stale" : strerror(-rv));
	return 1;
}

static int run_index(int argc, char **argv)
{
	char path[4096];
	struct index_query query;
	int rv;

	if (argc != 4)
		return 2;
	query = (struct index_query){argv[0], argv[1], argv[2], argv[3], geteuid()};
	rv = index_look_up(&query, path, sizeof(path));
	if (rv < 0)
		return trouble(rv);
	puts(path);
	return 0;
}

static bool takes(void *owner, const char *value)
{
	(void)value;
	return *(bool *)owner;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_env(int argc, char **argv)
{
	bool library = false;
	struct env_place place = {.owner = &library, .takes_library = takes};
	struct env_list list = {0};
	struct environment environment = env_list_environment(&list);
	struct env_file file = {0};
	char *text = NULL, separator;
	size_t size = 0;
	int rv;

	if (argc < 1)
		return 2;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--container") == 0)
			place.in_container = true;
		else if (strcmp(argv[i], "--library") == 0)
			library = true;
		else if (strncmp(argv[i], "--fsx-root=", 11) == 0)
			place.shared_root = argv[i] + 11;
		else
			return 2;
	}
	rv = file_read_all(STDIN_FILENO, STDIN_LIMIT, &text, &size);
	if (rv < 0)
		return trouble(rv);
	separator = memchr(text, '\0', size) != NULL ? '\0' : '\n';
	for (size_t start = 0, end; start < size; start = end + 1) {
		char *equals;

		for (end = start; end < size && text[end] != separator; end++)
			;
		text[end] = '\0';
		equals = strchr(text + start, '=');
		if (equals == NULL)
			continue;
		*equals = '\0';
		environment.set(&list, text + start, equals + 1);
	}
	rv = env_file_read(argv[0], geteuid(), &file);
	if (rv == 0 && env_file_apply(&file, &environment, &place) > 0)
		rv = -ENOMEM;
	if (list.count > 0)
		qsort(list.entries, list.count, sizeof(*list.entries), by_bytes);
	for (size_t i = 0; i < list.count; i++)
		printf("%s%c", list.entries[i], separator);
	env_file_free(&file);
	env_list_free(&list);
	free(text);
	return rv < 0 ? trouble(rv) : 0;
}

static int run_operations(int argc, char **argv)
{
	static const char *const verbs[] = {"default", "set", "prepend", "append", "unset"};
	static const char *const scopes[] = {"-", "host", "library"};
	struct env_file file = {0};
	int rv;

	if (argc != 1)
		return 2;
	rv = env_file_read(argv[0], geteuid(), &file);
	for (size_t i = 0; i < file.count; i++)
		printf("%s %s %s %s\n", scopes[file.operations[i].scope], verbs[file.operations[i].verb],
		       file.operations[i].name, file.operations[i].value);
	env_file_free(&file);
	return rv < 0 ? trouble(rv) : 0;
}

static int run_name(int argc, char **argv)
{
	char name[NAME_SIZE];

	if (argc != 1)
		return 2;
	if (name_cut(argv[0], name) < 0)
		return 1;
	puts(name);
	return 0;
}

static int run_conf(int argc, char **argv)
{
	struct plugin_conf conf;
	int rv;

	if (argc != 2)
		return 2;
	rv = plugin_conf_read(argv[0], argv[1], geteuid(), &conf);
	printf("fsx_root=%s\ncontainers=%s\nindex=%s\npolicy=%s\nunknown_name=%s\nprepare=%d\nstate_dir=%s\nstage=%s\n"
	       "current=%d\n", conf.fsx_root, conf.containers, conf.index, conf.policy,
	       conf.reject_unknown ? "reject" : "pass", (int)conf.prepare, conf.state_dir, conf.stage, conf.is_current);
	return rv < 0 ? trouble(rv) : 0;
}

static int run_mounted(int argc, char **argv)
{
	char *text = NULL;
	size_t size = 0;
	bool covered;

	if (argc != 1 || file_read_all(STDIN_FILENO, STDIN_LIMIT, &text, &size) < 0)
		return 2;
	covered = mountinfo_covers(text, argv[0]);
	free(text);
	return covered ? 0 : 1;
}

static int run_image(int argc, char **argv)
{
	int rv;

	if (argc != 1)
		return 2;
	rv = squashfs_check_path(argv[0]);
	if (rv < 0)
		fprintf(stderr, "%s\n", rv == -ENOEXEC ? "none" : rv == -ENODATA ? "part" : strerror(-rv));
	return rv < 0 ? 1 : 0;
}

static int run_nccl(int argc, char **argv)
{
	bool has;
	int root;

	if (argc != 2 && argc != 3)
		return 2;
	root = open(argv[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return 2;
	has = image_has_nccl(root, argc == 3 ? argv[2] : NULL, argv[1]);
	close(root);
	return has ? 0 : 1;
}

static int run_root(int argc, char **argv)
{
	struct root_record record;
	struct root root;
	int rv;

	if (argc != 3)
		return 2;
	rv = root_name(argv[0], (uid_t)strtoul(argv[1], NULL, 10), argv[2], &root);
	if (rv == 0)
		rv = root_record_read(&root, &record);
	if (rv < 0)
		return trouble(rv);
	printf("uid=%u\ngid=%u\nscope=%s\ntarget=%s\nimage=%s\nidentity=%s\nserver=%d\nserver_start=%llu\n", record.uid,
	       record.gid, record.keeps_writes ? "global" : "job", record.target, record.image, record.identity,
	       record.server, record.server_start);
	return 0;
}

static int run_prepare(int argc, char **argv)
{
	static const char *const outcomes[] = {"before", "mounted", "unpacked", "older", "foreign"};
	struct words environment = {0};
	struct user user = {0};
	struct preparation wish = {.user = &user, .enroot_environment = &environment, .stage = "", .lock_timeout_ms = 60000,
				   .unpack_timeout_ms = 60000};
	char why[8192];
	int rv;

	if (argc < 7)
		return 2;
	wish.state_dir = argv[0];
	wish.run_dir = argv[1];
	wish.enroot = argv[2];
	user.uid = user.gid = (uid_t)strtoul(argv[3], NULL, 10);
	wish.job = (uint32_t)strtoul(argv[4], NULL, 10);
	wish.container = argv[5];
	wish.image = argv[6];
	for (int i = 7; i < argc; i++) {
		wish.keeps_writes = wish.keeps_writes || strcmp(argv[i], "global") == 0;
		wish.unpacks = wish.unpacks || strcmp(argv[i], "unpack") == 0;
		if (strncmp(argv[i], "stage=", 6) == 0)
			wish.stage = argv[i] + 6;
	}
	enroot_environment(environ, NULL, &environment);
	rv = root_prepare(&wish, why, sizeof(why));
	words_free(&environment);
	if (rv < 0) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	puts(outcomes[rv]);
	return 0;
}

static void complain(const char *container, int error)
{
	fprintf(stderr, "%s: %s\n", container, strerror(-error));
}

static int run_release(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	printf("%d\n", roots_release(argv[0], argv[1], (uint32_t)strtoul(argv[2], NULL, 10), complain));
	return 0;
}

static int run_mark(int argc, char **argv)
{
	int rv = argc == 3 ? catalogue_mark_use(argv[0], argv[1], "lab", (uint32_t)strtoul(argv[2], NULL, 10), 2000) : -EINVAL;

	return rv < 0 ? trouble(rv) : 0;
}

static int run_cache(int argc, char **argv)
{
	int rv = argc == 3 ? catalogue_make_cache(argv[0], (uid_t)strtoul(argv[1], NULL, 10),
						  (gid_t)strtoul(argv[2], NULL, 10), 2000) : -EINVAL;

	return rv < 0 ? trouble(rv) : 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{"index", run_index}, {"env", run_env},         {"operations", run_operations}, {"name", run_name},
		{"conf", run_conf},   {"mounted", run_mounted}, {"nccl", run_nccl},
		{"root", run_root},   {"prepare", run_prepare}, {"release", run_release},       {"mark", run_mark},
		{"cache", run_cache}, {"image", run_image},
	};

	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 2, argv + 2);
	return 2;
}
