/*
 * A host for the built plugin without Slurm: it offers the spank_* functions and calls the plugin's symbols, so that
 * they can be timed and run under strace alone.
 *
 *   stub_host PLUGIN post_opt ROUNDS [PLUGIN OPTION]...
 *       as sbatch: slurm_spank_init, slurm_spank_init_post_opt; set _SLURM_SPANK_OPTION_pyxis_container_name before
 *   stub_host PLUGIN task_init ROUNDS [PLUGIN OPTION]...
 *       as slurmstepd for job 1: slurm_spank_init and init_post_opt once, then slurm_spank_task_init for each task
 *
 *       STUB_HOST_ROOT=FOLDER enters that folder in between, as Pyxis would a container (as root; with its /proc)
 *
 * Prints the median of the last call's time, over the rounds, in microseconds.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

#include "env_list.h"

enum { MAX_ROUNDS = 100000 };

static spank_context_t context;
static struct env_list variables;
static struct environment job;

spank_context_t spank_context(void)
{
	return context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	(void)spank;
	(void)option;
	return ESPANK_SUCCESS;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	if (!overwrite && job.get(job.owner, name) != NULL)
		return ESPANK_ENV_EXISTS;
	return job.set(job.owner, name, value) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	(void)name;
	(void)value;
	(void)overwrite;
	return ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
	(void)spank;
	job.unset(job.owner, name);
	return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	static char **entries;
	spank_err_t rv = ESPANK_SUCCESS;
	va_list arguments;

	(void)spank;
	va_start(arguments, item);
	if (item == S_JOB_ENV) {
		/* Slurm's own list is NULL-terminated; this costs more than Slurm, never less. */
		char **larger = realloc(entries, (variables.count + 1) * sizeof(*entries));

		if (larger != NULL)
			entries = larger;
		if (variables.count > 0)
			memcpy(entries, variables.entries, variables.count * sizeof(*entries));
		entries[variables.count] = NULL;
		*va_arg(arguments, char ***) = entries;
	} else if (item == S_JOB_ID) {
		*va_arg(arguments, uint32_t *) = 1;
	} else if (item == S_JOB_STEPID || item == S_JOB_NODEID) {
		*va_arg(arguments, uint32_t *) = 0;
	} else {
		rv = ESPANK_ERROR;
	}
	va_end(arguments);
	return rv;
}

static void print(const char *format, va_list arguments)
{
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

#define LOG(name) \
	void name(const char *format, ...) \
	{ \
		va_list arguments; \
\
		va_start(arguments, format); \
		print(format, arguments); \
		va_end(arguments); \
	}
LOG(slurm_error)
LOG(slurm_info)
LOG(slurm_spank_log)

/* What slurmd keeps to itself at its usual level of detail. */
#define LOG_NOTHING(name)                 \
	void name(const char *format, ...) \
	{                                  \
		(void)format;              \
	}

LOG_NOTHING(slurm_verbose)
LOG_NOTHING(slurm_debug)

spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char *argv[]);
spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char *argv[])
{
	(void)spank;
	(void)argc;
	(void)argv;
	return ESPANK_SUCCESS;
}

static void fill_environment(void)
{
	char name[32], value[64];

	env_list_free(&variables);
	job = env_list_environment(&variables);
	for (int i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "SLURM_VARIABLE_%d", i);
		snprintf(value, sizeof(value), "a value of the usual length, number %d", i);
		job.set(job.owner, name, value);
	}
}

static int by_time(const void *a, const void *b)
{
	double first = *(const double *)a, second = *(const double *)b;

	return (first > second) - (first < second);
}

int main(int argc, char **argv)
{
	typedef int symbol(spank_t spank, int ac, char **av);
	static double times[MAX_ROUNDS];
	symbol *init, *post_opt, *timed;
	void *plugin;
	bool is_task;
	int rounds;

	if (argc < 4 || (rounds = atoi(argv[3])) < 1 || rounds > MAX_ROUNDS)
		return 2;
	is_task = strcmp(argv[2], "task_init") == 0;
	plugin = dlopen(argv[1], RTLD_NOW);
	if (plugin == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	*(void **)&init = dlsym(plugin, "slurm_spank_init");
	*(void **)&post_opt = dlsym(plugin, "slurm_spank_init_post_opt");
	*(void **)&timed = is_task ? dlsym(plugin, "slurm_spank_task_init") : *(void **)&post_opt;
	if (init == NULL || post_opt == NULL || timed == NULL)
		return 1;
	context = is_task ? S_CTX_REMOTE : S_CTX_ALLOCATOR;
	fill_environment();
	init(NULL, argc - 4, argv + 4);
	if (is_task)
		post_opt(NULL, argc - 4, argv + 4);
	if (is_task && getenv("STUB_HOST_ROOT") != NULL &&
	    (chroot(getenv("STUB_HOST_ROOT")) < 0 || chdir("/") < 0)) {
		perror("STUB_HOST_ROOT");
		return 1;
	}
	for (int i = 0; i < rounds; i++) {
		struct timespec start, end;

		if (is_task)
			fill_environment();
		clock_gettime(CLOCK_MONOTONIC, &start);
		timed(NULL, argc - 4, argv + 4);
		clock_gettime(CLOCK_MONOTONIC, &end);
		times[i] = (double)(end.tv_sec - start.tv_sec) * 1e6 + (double)(end.tv_nsec - start.tv_nsec) / 1e3;
	}
	qsort(times, (size_t)rounds, sizeof(times[0]), by_time);
	printf("%.1f\n", times[rounds / 2]);
	return 0;
}
