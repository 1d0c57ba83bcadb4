#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claims.h"
#include "plugin_conf.h"

static void plugin_conf_is_current_only_for_the_configuration_it_was_made_from(void)
{
	char config[256], text[1024];
	struct plugin_conf conf;
	struct stat st;

	CLAIM(plugin_conf_read(in_folder("none"), in_folder("no.yaml"), geteuid(), &conf) == -ENOENT);
	CLAIM(conf.is_current && same(conf.index, "/fsx/containers/.slurm-fsx/index") && same(conf.policy, "default"));
	snprintf(config, sizeof(config), "%s", write_file("config.yaml", "{}\n"));
	CLAIM(plugin_conf_read(in_folder("none"), config, geteuid(), &conf) == -ENOENT && !conf.is_current);
	CLAIM(stat(config, &st) == 0);
	snprintf(text, sizeof(text), "# slurm-fsx plugin 1\nconfig=%s\nconfig_key=%llu:%llu:%lld:%lld\nfsx_root=/shared\n"
		 "unknown_name=reject\npolicy=abc\nnew=1\nnccl_profiles=documented fast\ncontainers=relative\n", config, (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino, (long long)st.st_size, mtime_of(config));
	CLAIM(plugin_conf_read(write_file("plugin.conf", text), config, geteuid(), &conf) == 0);
	CLAIM(conf.is_current && conf.reject_unknown && same(conf.fsx_root, "/shared") && same(conf.policy, "abc") &&
	      same(conf.containers, "/fsx/containers") && same(conf.nccl_profiles, "documented fast"));
	write_file("config.yaml", "{a: 1}\n");
	CLAIM(plugin_conf_read(in_folder("plugin.conf"), config, geteuid(), &conf) == 0 && !conf.is_current);
	CLAIM(plugin_conf_read(in_folder("plugin.conf"), in_folder("no.yaml"), geteuid(), &conf) == 0 && !conf.is_current);
}

void plugin_conf_tests(void)
{
	plugin_conf_is_current_only_for_the_configuration_it_was_made_from();
}
