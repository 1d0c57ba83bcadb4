#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claims.h"
#include "root.h"

static void a_root_is_named_by_what_an_overlay_can_carry(void)
{
	static const char *const bad[] = {"", "a,b", "a:b", "a b", "a\\b", "a/b", "a\nb"};
	char longest[300];
	struct root root;

	CLAIM(root_name(test_folder, 2001, "pyxis_12_pytorch-24.01+x@y", &root) == 0);
	CLAIM(same(root.id, "2001.pyxis_12_pytorch-24.01+x@y") && strstr(root.upper, "/roots/2001.pyxis_12") != NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CLAIM(root_name(test_folder, 2001, bad[i], &root) == -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CLAIM(root_name(test_folder, 2001, longest, &root) == -EINVAL);
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
	CLAIM(root_add_job(&root, 4000000000) == 0 && !root_is_shared(&root, 5, test_folder));
	CLAIM(mkdir(in_folder("jobs"), 0755) == 0);
	write_file("jobs/4000000000.env", "");
	CLAIM(root_is_shared(&root, 5, test_folder) && !root_is_shared(&root, 4000000000, test_folder));
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

void root_tests(void)
{
	a_root_is_named_by_what_an_overlay_can_carry();
	what_is_written_down_of_a_root_is_read_again();
	a_root_is_locked_by_one_at_a_time();
	a_process_is_known_by_its_start();
}
