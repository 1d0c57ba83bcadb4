/* What an admin writes behind the plugin in plugstack.conf, and what users get on the command line. */
#ifndef SLURM_FSX_OPTIONS_H
#define SLURM_FSX_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

#include <slurm/spank.h>

enum runtime { RUNTIME_PYXIS, RUNTIME_ENROOT, RUNTIME_BWRAP };

/* The part of the work that a line does; a line without `line=` does both. */
enum { LINE_BEFORE = 1, LINE_AFTER = 2 };

struct options {
	enum runtime runtime;
	bool scope_is_global; /* Pyxis's container_scope, which its own line says */
	char config[PATH_MAX];
	char run_dir[PATH_MAX];
	char command[PATH_MAX];
};

/* What the user gave; NULL where nothing. Slurm calls back locally and again in the step. */
struct user_options {
	char *nccl;
	char *container_name;
	char *container_image;
	char *container_mounts;
};

/* The one set of options in this process: both lines of plugstack.conf share the loaded plugin. */
extern struct options options;
extern struct user_options user_options;

/*
 * Reads one line's words into `options` and gives its part of the work. A word that is unknown or wrong is one line in
 * the log where `report` is set, and nothing more.
 */
int options_read(int ac, char **av, bool report);

/* Gives users --nccl and, with a runtime of our own, Pyxis's three most used options. Only from slurm_spank_init. */
void options_register(spank_t spank);

void options_free(void);

#endif
