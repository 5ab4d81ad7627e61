//! What jobs do: scripts, variables, sources, cancel and log.

use super::Row;
use super::Verdict::{Covered, Elsewhere};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: (1, 1),
        keys: &["TestDockerCommandMultistepBuild"],
        subject: "steps in order until one fails; after_script runs in any case",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::every_step_runs_until_one_fails",
            "host/src/job/run/tests.rs::a_failed_script_lets_after_script_know",
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
            "tests/tests/stories/main_job.rs::a_job_gets_its_sources_its_variables_and_its_after_script",
        ]),
    },
    Row {
        number: (1, 2),
        keys: &["TestBuildPassingEnvsMultistep"],
        subject: "what is written to GITLAB_ENV reaches later stages and no other job",
        verdict: Covered(&[
            "host/src/job/script/tests.rs::variables_files_and_gitlab_env_reach_the_user_s_commands",
            "host/src/job/script/tests.rs::any_line_survives_gitlab_env",
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
        ]),
    },
    Row {
        number: (1, 3),
        keys: &["TestDockerCommandSuccessRunRawVariable"],
        subject: "a raw variable is left as it is",
        verdict: Covered(&[
            "host/src/job/variables/tests.rs::values_are_expanded_once_against_unexpanded_ones",
            "host/src/job/script/tests.rs::any_value_survives_every_shell",
        ]),
    },
    Row {
        number: (1, 4),
        keys: &["TestDockerCommandSuccessRunFileVariableContent"],
        subject: "a file variable names a file that has its value",
        verdict: Covered(&[
            "tests/tests/stories/main_job.rs::a_job_gets_its_sources_its_variables_and_its_after_script",
            "host/src/job/script/tests.rs::any_value_survives_every_shell",
        ]),
    },
    Row {
        number: (1, 5),
        keys: &["TestBuildScriptSections/shown"],
        subject: "a command of several lines is shown whole in a folded section",
        verdict: Covered(&[
            "host/src/job/script/tests.rs::a_multi_line_command_is_shown_whole_in_a_folded_section_where_asked",
        ]),
    },
    Row {
        number: (1, 5),
        keys: &["TestBuildScriptSections/asked for"],
        subject: "sections need the flag and a GitLab that shows them",
        verdict: Covered(&[
            "host/src/job/script/tests.rs::neither_the_flag_nor_gitlab_s_feature_alone_folds_anything",
        ]),
    },
    Row {
        number: (1, 6),
        keys: &["TestDockerCommandUsingCustomClonePath/allowed"],
        subject: "GIT_CLONE_PATH is where the sources go, below the builds directory",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::a_custom_clone_path_is_where_the_sources_go",
            "host/src/job/plan/tests.rs::a_clone_path_outside_of_the_builds_directory_is_refused",
        ]),
    },
    Row {
        number: (1, 6),
        keys: &["TestDockerCommandUsingCustomClonePath/not allowed"],
        subject: "custom_build_dir.enabled = false refuses GIT_CLONE_PATH",
        verdict: Covered(&[
            "host/src/job/plan/tests.rs::without_custom_build_dir_no_job_says_where_its_sources_go",
        ]),
    },
    Row {
        number: (1, 7),
        keys: &["TestDockerCommandNoRootImage"],
        subject: "a user who is not root can write to the project",
        verdict: Covered(&[
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (1, 8),
        keys: &["TestDockerCommandEntrypointWithStderrOutput/standard output"],
        subject: "what an entrypoint prints before the numbers of the user is skipped",
        verdict: Covered(&[
            "host/src/job/run/ownership.rs::the_owner_is_in_the_last_two_lines",
            "host/src/job/run/tests/limits.rs::without_the_umask_the_build_container_s_user_gets_the_sources",
        ]),
    },
    Row {
        number: (1, 8),
        keys: &["TestDockerCommandEntrypointWithStderrOutput/standard error"],
        subject: "what it prints to standard error is no answer",
        verdict: Covered(&[
            "host/src/job/run/tests/limits.rs::without_the_umask_the_build_container_s_user_gets_the_sources",
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
        ]),
    },
    Row {
        number: (1, 9),
        keys: &["TestDockerCommandOwnershipOverflow"],
        subject: "an image that tells its user without end fails the job and holds nothing up",
        verdict: Covered(&[
            "host/src/job/run/tests/limits.rs::without_the_umask_the_build_container_s_user_gets_the_sources",
        ]),
    },
    Row {
        number: (1, 14),
        keys: &["TestDockerCommandBuildCancel"],
        subject: "each timeout, shutdown, abort and cancel: what still runs, and the status",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::cancel_ends_the_script_and_after_script_still_runs",
            "host/src/job/run/tests.rs::what_ends_everything_is_heard_while_a_cancelled_script_ends",
            "host/src/job/run/tests.rs::abort_shutdown_and_the_job_s_timeout_end_everything_but_cleanup",
            "host/src/job/run/tests.rs::the_script_s_own_timeout_lets_after_script_run",
            "tests/tests/stories/main_job.rs::a_cancelled_job_ends_and_its_after_script_runs",
        ]),
    },
    Row {
        number: (1, 15),
        keys: &["TestDockerCommandNoScriptBodyLeakOnCancel"],
        subject: "a shell that is ended does not print its script",
        verdict: Covered(&[
            "host/src/job/script/tests/ending.rs::a_shell_that_is_ended_does_not_print_its_script",
            "tests/tests/stories/cancelled.rs::a_cancelled_script_s_processes_hear_term_and_the_log_shows_no_more_than_they_say",
        ]),
    },
    Row {
        number: (1, 16),
        keys: &["TestBuildMasking"],
        subject: "masked values, tokens by prefix and parameters of addresses never show",
        verdict: Covered(&[
            "host/src/coordinator/mask/tests.rs::phrases_by_table",
            "host/src/coordinator/mask/tests.rs::tokens_and_parameters_by_table",
            "host/src/coordinator/mask/tests.rs::any_chunking_equals_the_offline_replacement",
            "host/src/coordinator/trace/tests.rs::a_secret_split_between_writes_does_not_show",
            "tests/tests/stories/main_job.rs::a_job_gets_its_sources_its_variables_and_its_after_script",
        ]),
    },
    Row {
        number: (1, 16),
        keys: &["TestBuildMaskingProxyExec"],
        subject: "proxy_exec: words that a job adds by ::add-mask:: are masked, too",
        verdict: Covered(&[
            "host/src/coordinator/mask/tests.rs::a_job_s_own_words_are_masked_from_the_line_that_adds_them",
            "host/src/coordinator/mask/tests.rs::an_added_word_is_masked_in_every_stream_and_only_scripts_add_one",
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
        ]),
    },
    Row {
        number: (1, 17),
        keys: &["TestBuildExpandedFileVariable"],
        subject: "a variable that names a file variable gets the path",
        verdict: Covered(&[
            "host/src/job/variables/tests.rs::values_are_expanded_once_against_unexpanded_ones",
        ]),
    },
    Row {
        number: (1, 20),
        keys: &["TestDockerCommandOutput"],
        subject: "the lines of a whole job, in order",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::stages_run_in_order_and_sources_show_behind_the_slower_preparation",
            "host/src/job/lines.rs::lines_are_gitlab_runner_s",
            "host/src/job/script/sources/tests.rs::sources_are_cloned_fetched_again_and_cleaned",
            "tests/tests/stories/images.rs::logins_come_from_every_source_and_never_by_a_helper_that_a_job_names",
        ]),
    },
    Row {
        number: (1, 30),
        keys: &["TestDockerCommandWithGitSSLCAInfo/told"],
        subject: "git is told of the server's certificates",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/login.rs::another_address_by_the_operator_and_a_server_s_certificates_reach_git",
        ]),
    },
    Row {
        number: (1, 30),
        keys: &["TestDockerCommandWithGitSSLCAInfo/fetch"],
        subject: "sources come by TLS from a server whose authority only the job knows",
        verdict: Covered(&[
            "tests/tests/stories/secured.rs::a_gitlab_with_its_own_authority_that_asks_who_comes_is_reached_by_manager_and_job",
        ]),
    },
    Row {
        number: (1, 32),
        keys: &["TestDockerCommand_Pwsh"],
        subject: "PowerShell on Linux",
        verdict: Elsewhere("PowerShell comes later; the configuration refuses it by name"),
    },
    Row {
        number: (1, 33),
        keys: &["TestDockerCommandWithDoingPruneAndAfterScript"],
        subject: "a script that removes what has ended does not stop later stages",
        verdict: Covered(&[
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
        ]),
    },
    Row {
        number: (1, 34),
        keys: &["TestDockerCommandRunAttempts"],
        subject: "a stage whose container vanished is run again as often as asked",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::a_vanished_container_is_made_again_only_as_often_as_asked",
        ]),
    },
    Row {
        number: (1, 34),
        keys: &["TestDockerCommand_InvalidAttempts"],
        subject: "EXECUTOR_JOB_SECTION_ATTEMPTS out of 1 to 10 is told and clamped",
        verdict: Covered(&[
            "host/src/job/plan/tests.rs::what_cannot_be_understood_is_a_warning_and_a_submodule_typo_an_error",
        ]),
    },
    Row {
        number: (1, 36),
        keys: &["TestChownAndUmaskUsage"],
        subject: "owner and mode of the sources, with and without the umask, by root or not",
        verdict: Covered(&[
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
            "host/src/job/run/tests/limits.rs::without_the_umask_the_build_container_s_user_gets_the_sources",
            "host/src/job/plan/tests.rs::flags_shape_the_containers_and_stand_in_the_variables",
        ]),
    },
    Row {
        number: (1, 37),
        keys: &["TestBuildLogLimitExceeded"],
        subject: "output_limit is said in the log and costs the job nothing",
        verdict: Covered(&[
            "host/src/coordinator/trace/tests.rs::the_limit_is_said_in_the_log_and_counted",
            "host/src/coordinator/spool.rs::the_limit_cuts_between_characters_and_says_so_once",
        ]),
    },
    Row {
        number: (1, 38),
        keys: &[
            "TestCleanupProjectGitClone",
            "TestCleanupProjectGitFetch",
            "TestCleanupProjectGitSubmoduleRecursive",
        ],
        subject: "FF_ENABLE_JOB_CLEANUP leaves no trace of a job",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/submodules.rs::cleaning_up_leaves_no_secret_and_with_the_flag_no_trace_of_the_job",
        ]),
    },
    Row {
        number: (1, 38),
        keys: &["TestCleanupProjectGitSubmoduleNormal"],
        subject: "the same with submodules of the first level only",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/submodules.rs::cleaning_up_reaches_submodules_as_deep_as_they_came",
        ]),
    },
    Row {
        number: (1, 45),
        keys: &[
            "TestDockerBuildContainerGracefulShutdownNoInit",
            "TestDockerBuildContainerGracefulShutdownWithInit",
        ],
        subject: "processes of a cancelled script hear TERM",
        verdict: Covered(&[
            "host/src/job/script/tests/ending.rs::commands_hear_term_and_have_the_last_word",
            "tests/tests/stories/cancelled.rs::a_cancelled_script_s_processes_hear_term_and_the_log_shows_no_more_than_they_say",
        ]),
    },
    Row {
        number: (1, 46),
        keys: &["Test_FF_USE_NATIVE_CONTAINER_STOP/after_script"],
        subject: "a script is stopped by Docker's own stop, and after_script runs",
        verdict: Covered(&[
            "tests/tests/stories/cancelled.rs::a_cancelled_script_s_processes_hear_term_and_the_log_shows_no_more_than_they_say",
            "host/src/job/plan/tests.rs::flags_shape_the_containers_and_stand_in_the_variables",
        ]),
    },
    Row {
        number: (1, 46),
        keys: &["Test_FF_USE_NATIVE_CONTAINER_STOP/signal"],
        subject: "the first process hears TERM",
        verdict: Covered(&[
            "tests/tests/stories/cancelled.rs::a_cancelled_script_s_processes_hear_term_and_the_log_shows_no_more_than_they_say",
        ]),
    },
    Row {
        number: (1, 47),
        keys: &["Test_FF_USE_INIT_WITH_DOCKER_EXECUTOR"],
        subject: "docker-init is the first process",
        verdict: Covered(&[
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
            "host/src/job/plan/tests.rs::flags_shape_the_containers_and_stand_in_the_variables",
        ]),
    },
    Row {
        number: (1, 53),
        keys: &["TestGitCredHelper"],
        subject: "git gets the job's token and no address has it",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/login.rs::the_server_gets_the_job_s_token_and_no_file_does",
            "host/src/job/script/sources/tests/login.rs::without_tokens_in_addresses_git_knows_the_way_outside_of_the_project_too",
        ]),
    },
    Row {
        number: (1, 53),
        keys: &["TestPwshGitCredHelper"],
        subject: "the same by PowerShell",
        verdict: Elsewhere("PowerShell comes later"),
    },
];
