#include "claims.h"
#include "mountinfo.h"

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

void mountinfo_tests(void)
{
	mount_points_are_found_at_and_above_a_path();
}
