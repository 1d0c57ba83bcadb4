#include "user_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const struct {
	const char *name;
	int resource;
} limits[] = {
	{"CPU", RLIMIT_CPU},       {"FSIZE", RLIMIT_FSIZE}, {"DATA", RLIMIT_DATA},   {"STACK", RLIMIT_STACK},
	{"CORE", RLIMIT_CORE},     {"RSS", RLIMIT_RSS},     {"NPROC", RLIMIT_NPROC}, {"NOFILE", RLIMIT_NOFILE},
	{"MEMLOCK", RLIMIT_MEMLOCK}, {"AS", RLIMIT_AS},
};

void user_limits_apply(const struct environment *environment)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		char name[32];
		const char *value;
		char *end;
		struct rlimit limit;
		unsigned long long wanted;

		snprintf(name, sizeof(name), "SLURM_RLIMIT_%s", limits[i].name);
		value = environment->get(environment->owner, name);
		if (value == NULL)
			continue;
		/* A leading U means that the user asked for it with --propagate. */
		wanted = strtoull(value + (*value == 'U'), &end, 10);
		if (*end == '\0' && getrlimit((__rlimit_resource_t)limits[i].resource, &limit) == 0) {
			limit.rlim_cur = wanted < limit.rlim_max ? (rlim_t)wanted : limit.rlim_max;
			setrlimit((__rlimit_resource_t)limits[i].resource, &limit);
		}
		environment->unset(environment->owner, name);
	}
}
