#include <errno.h>
#include <string.h>

#include "claims.h"
#include "name.h"

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

void name_tests(void)
{
	names_lose_flags_and_never_become_paths();
	nccl_values_and_paths_are_checked();
	an_image_that_is_no_path_is_looked_up_by_its_files_name();
}
