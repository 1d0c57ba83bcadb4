/*
 * A host for the SPANK plugin that is not Slurm: loads the built plugin, plays the calls of one context, and prints the
 * median of what one call took.
 *
 *   spank_host submit PLUGIN RUN_DIR NAME ROUNDS CONFIG   slurm_spank_init_post_opt in srun, in microseconds
 *   spank_host task PLUGIN RUN_DIR JOB ROUNDS CONFIG      slurm_spank_task_init, in microseconds
 *
 * Build: cc -rdynamic -o spank_host spank_host.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <slurm/spank.h>

static spank_context_t context = S_CTX_LOCAL;
static uint32_t job;
static char **job_env;

static void say(const char *format, va_list arguments)
{
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

#define LOGGER(name) void name(const char *format, ...) { va_list a; va_start(a, format); say(format, a); va_end(a); }
LOGGER(slurm_error)
LOGGER(slurm_info)
LOGGER(slurm_spank_log)

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

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	spank_err_t rv = ESPANK_SUCCESS;
	va_list arguments;

	(void)spank;
	va_start(arguments, item);
	if (item == S_JOB_ID)
		*va_arg(arguments, uint32_t *) = job;
	else if (item == S_JOB_STEPID)
		*va_arg(arguments, uint32_t *) = 0;
	else if (item == S_JOB_ENV)
		*va_arg(arguments, char ***) = job_env;
	else
		rv = ESPANK_NOT_AVAIL;
	va_end(arguments);
	return rv;
}

/* As Slurm keeps a job's environment: an array of NAME=VALUE that grows. */
static size_t find(const char *name)
{
	size_t length = strlen(name), i = 0;

	while (job_env[i] != NULL && (strncmp(job_env[i], name, length) != 0 || job_env[i][length] != '='))
		i++;
	return i;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	size_t i = find(name);
	char *entry;

	(void)spank;
	if (job_env[i] != NULL && !overwrite)
		return ESPANK_ENV_EXISTS;
	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return ESPANK_ERROR;
	if (job_env[i] == NULL) {
		job_env = realloc(job_env, (i + 2) * sizeof(*job_env));
		job_env[i + 1] = NULL;
	} else {
		free(job_env[i]);
	}
	job_env[i] = entry;
	return ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
	size_t i = find(name);

	(void)spank;
	if (job_env[i] == NULL)
		return ESPANK_SUCCESS;
	free(job_env[i]);
	for (; job_env[i] != NULL; i++)
		job_env[i] = job_env[i + 1];
	return ESPANK_SUCCESS;
}

spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char **argv)
{
	(void)spank;
	(void)argc;
	(void)argv;
	return ESPANK_ERROR;
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return (difference > 0) - (difference < 0);
}

/* A job's environment has some hundred variables. */
static void fill_environment(void)
{
	job_env = calloc(1, sizeof(*job_env));
	for (int i = 0; i < 150; i++) {
		char name[32];

		snprintf(name, sizeof(name), "VARIABLE_%d", i);
		spank_setenv(NULL, name, "a value of some length, as a job's environment has them", 1);
	}
	spank_setenv(NULL, "LD_LIBRARY_PATH", "/opt/one/lib:/opt/two/lib:/opt/three/lib", 1);
}

static void empty_environment(void)
{
	for (size_t i = 0; job_env[i] != NULL; i++)
		free(job_env[i]);
	free(job_env);
}

int main(int argc, char **argv)
{
	typedef int callback(spank_t, int, char **);
	callback *init, *post_opt, *task_init, *spank_exit;
	char run_dir[4096], config[4096], *av[2] = {run_dir, config};
	int rounds;
	double *times;
	void *plugin;

	if (argc != 7 || (rounds = atoi(argv[5])) < 1)
		return 2;
	plugin = dlopen(argv[2], RTLD_NOW);
	if (plugin == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	init = (callback *)dlsym(plugin, "slurm_spank_init");
	post_opt = (callback *)dlsym(plugin, "slurm_spank_init_post_opt");
	task_init = (callback *)dlsym(plugin, "slurm_spank_task_init");
	spank_exit = (callback *)dlsym(plugin, "slurm_spank_exit");
	snprintf(run_dir, sizeof(run_dir), "run_dir=%s", argv[3]);
	snprintf(config, sizeof(config), "config=%s", argv[6]);
	times = calloc((size_t)rounds, sizeof(*times));
	if (strcmp(argv[1], "submit") == 0) {
		setenv("_SLURM_SPANK_OPTION_pyxis_container_name", argv[4], 1);
		init(NULL, 2, av);
		for (int i = 0; i < rounds; i++) {
			double before = now_us();

			post_opt(NULL, 2, av);
			times[i] = now_us() - before;
		}
		if (getenv("SLURM_FSX_CONTAINER_IMAGE") == NULL) {
			fprintf(stderr, "%s was not resolved\n", argv[4]);
			return 1;
		}
	} else {
		context = S_CTX_REMOTE;
		job = (uint32_t)atoi(argv[4]);
		for (int i = 0; i < rounds; i++) {
			double before;

			fill_environment();
			init(NULL, 2, av);
			before = now_us();
			task_init(NULL, 2, av);
			times[i] = now_us() - before;
			if (job_env[find("BENCH_LAST")] == NULL) {
				fprintf(stderr, "the operations of job %s were not applied\n", argv[4]);
				return 1;
			}
			spank_exit(NULL, 2, av);
			empty_environment();
		}
	}
	qsort(times, (size_t)rounds, sizeof(*times), compare);
	printf("%.3f\n", times[rounds / 2]);
	return 0;
}
