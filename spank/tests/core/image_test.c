#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "image.h"

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

void image_tests(void)
{
	an_images_own_nccl_is_seen();
}
