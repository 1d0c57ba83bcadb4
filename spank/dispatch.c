/*
 * The symbols that Slurm calls, each a switch on the context. All state is shared by the plugin's two lines in
 * plugstack.conf: Slurm loads the file twice, the dynamic linker gives it the same copy. Nothing here returns an error,
 * since an error could fail a job or, from 23.11 on, drain a node.
 */
#include <stddef.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#include "options.h"
#include "slurmd.h"
#include "step_container.h"
#include "stepd.h"
#include "submit.h"

SPANK_PLUGIN(slurm_fsx, 1)

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 5, 0)
/* Where somebody made the line `required`: a failing start fails the job, and leaves the node alone. */
int slurm_spank_init_failure_mode = ESPANK_JOB_FAILURE;
#endif

int slurm_spank_init(spank_t spank, int ac, char **av)
{
	int line = options_read(ac, av, true);

	switch (spank_context()) {
	case S_CTX_LOCAL:
	case S_CTX_ALLOCATOR:
		if (line & LINE_BEFORE)
			options_register(spank);
		break;
	case S_CTX_REMOTE:
		if (line & LINE_BEFORE)
			options_register(spank);
		stepd_start_step(spank);
		break;
	default:
		break;
	}
	return 0;
}

int slurm_spank_init_post_opt(spank_t spank, int ac, char **av)
{
	if (!(options_read(ac, av, false) & LINE_BEFORE))
		return 0;
	switch (spank_context()) {
	case S_CTX_LOCAL:
		submit_resolve(spank, true);
		break;
	case S_CTX_ALLOCATOR:
		submit_resolve(spank, false);
		break;
	case S_CTX_REMOTE:
		step_container_prepare(spank);
		break;
	default:
		break;
	}
	return 0;
}

int slurm_spank_task_init(spank_t spank, int ac, char **av)
{
	if (options_read(ac, av, false) & LINE_AFTER)
		stepd_start_task(spank);
	return 0;
}

int slurm_spank_task_exit(spank_t spank, int ac, char **av)
{
	if (options_read(ac, av, false) & LINE_BEFORE)
		stepd_end_task(spank);
	return 0;
}

int slurm_spank_job_epilog(spank_t spank, int ac, char **av)
{
	/* The only call in this process: slurm_spank_init has not been there. */
	if (options_read(ac, av, false) & LINE_BEFORE)
		slurmd_clean_up(spank);
	return 0;
}

int slurm_spank_exit(spank_t spank, int ac, char **av)
{
	(void)spank;
	(void)ac;
	(void)av;
	if (spank_context() == S_CTX_REMOTE)
		stepd_end_step();
	options_free();
	return 0;
}
