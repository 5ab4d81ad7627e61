//! The rest of the checklist: daemons, instances, shells and the helper.

use super::Row;
use super::Verdict::{Covered, Elsewhere};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: (2, 1),
        keys: &["TestDockerLogOptions"],
        subject: "log_options takes env and labels and nothing else",
        verdict: Covered(&[
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
            "host/src/docker/container/host/tests.rs::each_key_has_its_effect_on_its_containers_and_on_no_other",
            "host/src/config/check/docker/tests.rs::what_docker_would_refuse_is_refused_where_it_is_written",
        ]),
    },
    Row {
        number: (2, 2),
        keys: &[
            "TestPodmanCommandBasicRun",
            "TestPodmanCommandWithNonRootUser",
            "TestPodmanCommandWithPlatformKey",
        ],
        subject: "jobs in Podman",
        verdict: Elsewhere("the daemons that are promised are Docker's"),
    },
    Row {
        number: (2, 3),
        keys: &["Test_StepsIntegration"],
        subject: "steps by run:",
        verdict: Elsewhere("they come later; a job that has them fails by name"),
    },
    Row {
        number: (2, 4),
        keys: &["TestDockerTLSConnection"],
        subject: "a daemon and its client know each other by certificates",
        verdict: Covered(&[
            "host/src/docker/daemon/tests.rs::the_daemon_and_its_client_know_each_other_by_the_directory_alone",
        ]),
    },
    Row {
        number: (2, 5),
        keys: &["TestInteractiveTerminal"],
        subject: "a terminal in a running job",
        verdict: Elsewhere("the terminal and its session server come later"),
    },
    Row {
        number: (2, 6),
        keys: &["TestDockerCommandPullRetriesTransientRegistryFailure/tries"],
        subject: "a registry that is away is asked again",
        verdict: Covered(&[
            "host/src/docker/image/tests.rs::a_registry_that_is_away_is_asked_three_times_and_then_the_next_policy_is_tried",
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
        ]),
    },
    Row {
        number: (2, 6),
        keys: &["TestDockerCommandPullRetriesTransientRegistryFailure/success"],
        subject: "a later try has the image",
        verdict: Covered(&[
            "host/src/docker/image/tests.rs::a_registry_that_comes_back_between_two_tries_gives_the_image",
            "tests/tests/stories/images.rs::a_job_gets_the_platform_it_names_from_a_registry_that_comes_back_between_two_tries",
        ]),
    },
    Row {
        number: (2, 7),
        keys: &["TestCreateNetworkLabels"],
        subject: "a job's network is found by its labels",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::a_manager_that_was_killed_leaves_no_service_and_no_network_behind",
        ]),
    },
    Row {
        number: (2, 7),
        keys: &["TestCreateVolumesLabels", "TestCreateVolumesDriverOpts"],
        subject: "labels, drivers and options of volumes",
        verdict: Covered(&[
            "host/src/docker/volume/tests.rs::labels_say_what_a_volume_is_and_whose",
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (2, 7),
        keys: &["TestDockerLinuxSetter"],
        subject: "mount points are opened before the first stage",
        verdict: Covered(&[
            "host/helper/tests/helper.rs::mount_points_are_open_to_all_before_the_first_stage_and_a_missing_one_ends_nothing",
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildSuccess"],
        subject: "a job runs on an instance, over SSH",
        verdict: Covered(&[
            "tests/tests/stories/main_job.rs::twelve_jobs_at_once_each_get_an_instance_that_is_deleted_afterwards",
            "tests/tests/stories/main_job.rs::a_job_gets_its_sources_its_variables_and_its_after_script",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildTimeout/told"],
        subject: "a job that takes too long is told for how long it might have run",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::abort_shutdown_and_the_job_s_timeout_end_everything_but_cleanup",
            "tests/tests/stories/main_job.rs::a_cancelled_job_ends_and_its_after_script_runs",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildTimeout/nothing left"],
        subject: "no container and no network of it stays on its instance",
        verdict: Covered(&[
            "tests/tests/stories/main_job.rs::a_cancelled_job_ends_and_its_after_script_runs",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildSuccessUsingDockerHost"],
        subject: "docker.host names another daemon on the instance",
        verdict: Covered(&[
            "tests/tests/stories/ways.rs::jobs_reach_the_daemon_that_docker_host_names_by_each_way_and_one_is_cancelled_before",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildSuccessUsingDockerHostLegacyTunnel"],
        subject: "both ways to the daemon: its socket forwarded, and `docker system dial-stdio`",
        verdict: Covered(&[
            "tests/tests/stories/ways.rs::jobs_reach_the_daemon_that_docker_host_names_by_each_way_and_one_is_cancelled_before",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildCancel"],
        subject: "a cancelled job ends, after_script runs, and nothing stays",
        verdict: Covered(&[
            "tests/tests/stories/main_job.rs::a_cancelled_job_ends_and_its_after_script_runs",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildMasking"],
        subject: "masked values do not show",
        verdict: Covered(&[
            "tests/tests/stories/main_job.rs::a_job_gets_its_sources_its_variables_and_its_after_script",
        ]),
    },
    Row {
        number: (2, 8),
        keys: &["autoscaler::TestBuildExpandedFileVariable"],
        subject: "a variable that names a file variable gets the path",
        verdict: Covered(&[
            "host/src/job/variables/tests.rs::values_are_expanded_once_against_unexpanded_ones",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::TestPrepare"],
        subject: "a job waits for an instance and says what it waits for",
        verdict: Covered(&[
            "host/src/job/run/tests.rs::a_job_without_an_instance_says_what_it_waits_for_and_why_it_failed",
            "tests/tests/stories/main_job.rs::twelve_jobs_at_once_each_get_an_instance_that_is_deleted_afterwards",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::TestAcquisitionRef_*/slot"],
        subject: "a slot has a control group, and its job knows it",
        verdict: Covered(&[
            "host/src/docker/cgroup.rs::the_slot_s_group_takes_the_place_of_the_configured_one",
            "host/src/docker/cgroup.rs::templates_name_the_slot_and_nothing_else",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::TestAcquisitionRef_*/cancelled"],
        subject: "a connection that is begun for a cancelled job is closed",
        verdict: Covered(&[
            "host/src/fleet/connector.rs::a_dial_that_is_given_up_hangs_up",
            "tests/tests/stories/ways.rs::jobs_reach_the_daemon_that_docker_host_names_by_each_way_and_one_is_cancelled_before",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::TestBuildErrorFromContextCause"],
        subject: "a lost instance is the reason that the job is told",
        verdict: Covered(&[
            "host/src/docker/line.rs::complaint_15_a_job_on_a_dead_instance_is_told_what_the_cloud_says_of_it",
            "tests/tests/stories/cloud_troubles.rs::an_instance_terminated_in_the_cloud_fails_its_job_within_15_s_and_is_replaced_once",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::suspend and resume"],
        subject: "an environment is put to sleep and taken up again",
        verdict: Elsewhere("nothing is suspended yet; its flag is listed as without effect"),
    },
    Row {
        number: (2, 9),
        keys: &[
            "autoscaler::TestInit(ReusesScalerOnTokenRotation)",
            "autoscaler::TestProviderTokenRotationDoesNotPruneInstance",
        ],
        subject: "a rotated token is the same runner with the same instances",
        verdict: Covered(&[
            "host/src/config/changes.rs::complaint_4_a_rotated_token_is_the_same_runner",
        ]),
    },
    Row {
        number: (2, 9),
        keys: &["autoscaler::TestAcquire"],
        subject: "acquisitions are given, held and given back",
        verdict: Covered(&[
            "host/src/scaler/driver/tests.rs::giving_up_the_wait_gives_the_promise_back",
            "host/src/fleet/instance.rs::a_job_holds_its_instance",
            "host/src/scaler/driver/tests/complaints.rs::complaint_10_jobs_beyond_an_instances_slots_get_another_at_once",
        ]),
    },
    Row {
        number: (2, 10),
        keys: &["TestCancelingJobReportsFinalState"],
        subject: "a job that is being cancelled tells its end",
        verdict: Covered(&[
            "host/src/coordinator/trace/tests.rs::a_keep_alive_hears_signals_too",
            "host/src/coordinator/trace/tests.rs::signals_by_table_move_forward_only",
            "tests/tests/stories/main_job.rs::a_cancelled_job_ends_and_its_after_script_runs",
        ]),
    },
    Row {
        number: (2, 11),
        keys: &["shells::TestGitCredHelper"],
        subject: "git gets the job's token and no address has it",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/login.rs::the_server_gets_the_job_s_token_and_no_file_does",
            "host/src/job/script/sources/tests/login.rs::without_tokens_in_addresses_git_knows_the_way_outside_of_the_project_too",
        ]),
    },
    Row {
        number: (2, 11),
        keys: &[
            "shells::TestPowershellUTF8EncodingStdin",
            "shells::TestPwsh_StreamWriterOverloadResolution",
        ],
        subject: "PowerShell",
        verdict: Elsewhere("PowerShell comes later"),
    },
    Row {
        number: (2, 11),
        keys: &[
            "shells::TestMkDir",
            "shells::TestRmFile",
            "shells::TestRmFilesRecursive",
            "shells::TestRmDirsRecursive",
        ],
        subject: "folders are made; locks and hooks of an earlier job are gone, in submodules too",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::sources_are_cloned_fetched_again_and_cleaned",
            "host/src/job/script/sources/tests/submodules.rs::submodules_come_as_deep_as_asked_and_are_clean_again_for_the_next_job",
        ]),
    },
    Row {
        number: (2, 11),
        keys: &[
            "shells::TestExportRaw",
            "shells::TestCommandArgumentExpansion",
        ],
        subject: "values reach commands as they are",
        verdict: Covered(&[
            "host/src/job/script/tests.rs::any_value_survives_every_shell",
            "host/src/job/script/tests.rs::a_script_begins_with_its_mark_and_keeps_every_character",
        ]),
    },
    Row {
        number: (2, 11),
        keys: &[
            "shells::TestCommandWithStdin",
            "shells::TestCommandWithStdinBestEffort",
            "shells::TestIfFileReadable",
        ],
        subject: "building blocks of GitLab Runner's scripts",
        verdict: Elsewhere("scripts here are not made of these"),
    },
    Row {
        number: (2, 12),
        keys: &[
            "helpers::TestArchiveUploadExpandArgs",
            "helpers::TestArchiveUploadRedirect",
            "helpers::TestArchiveUploadLogging",
            "helpers::TestFileArchiver",
        ],
        subject: "artifacts",
        verdict: Elsewhere("artifacts come later; a job that has them fails by name"),
    },
    Row {
        number: (2, 12),
        keys: &[
            "helpers::TestCacheArchiveLocalMetadata",
            "helpers::TestCacheArchiveUploadExpandArgs",
            "helpers::TestCacheArchiveIsUpToDate",
            "helpers::TestCacheArchiveForIfNoFileDefined",
            "helpers::TestCacheArchiveRemoteServerNotFound",
            "helpers::TestCacheArchiveRemoteServer",
            "helpers::TestCacheArchiveGoCloudRemoteServer",
            "helpers::TestCacheArchiveRemoteServerWithHeaders",
            "helpers::TestCacheArchiveRemoteServerTimedOut",
            "helpers::TestCacheArchiveRemoteServerFailOnInvalidServer",
            "helpers::TestCacheArchiveCompressionLevel",
            "helpers::TestCacheArchiveUploadedSize",
            "helpers::TestCacheArchiveSkipsEmptyCache",
        ],
        subject: "caches",
        verdict: Elsewhere("caches of jobs come later; a job that has one is warned"),
    },
    Row {
        number: (2, 12),
        keys: &["helpers::TestCacheInit"],
        subject: "mount points are opened before the first stage, and a missing one ends nothing",
        verdict: Covered(&[
            "host/helper/tests/helper.rs::mount_points_are_open_to_all_before_the_first_stage_and_a_missing_one_ends_nothing",
        ]),
    },
    Row {
        number: (2, 12),
        keys: &["helpers::TestCacheInit_NoArguments"],
        subject: "the command that opens folders wants at least one",
        verdict: Elsewhere("there is no such command: the helper opens them on its way"),
    },
    Row {
        number: (2, 12),
        keys: &["helpers::TestServiceWaiterCommand_NoEnvironmentVariables"],
        subject: "a health check without an address says so",
        verdict: Covered(&["host/helper/tests/health.rs::what_cannot_be_dialled_is_said_at_once"]),
    },
    Row {
        number: (2, 12),
        keys: &["helpers::TestHealthCheckCommand_Execute"],
        subject: "a health check ends once a port takes a connection",
        verdict: Covered(&[
            "host/helper/tests/health.rs::it_ends_once_one_of_the_addresses_takes_a_connection",
        ]),
    },
    Row {
        number: (2, 12),
        keys: &["helpers::TestHealthCheckCommand_WaitAll"],
        subject: "a health check that waits for all of its ports",
        verdict: Elsewhere("that is an option for people; jobs wait for the first port"),
    },
    Row {
        number: (2, 13),
        keys: &["TestGetSourcesGit_Clone"],
        subject: "sources are cloned",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::sources_are_cloned_fetched_again_and_cleaned",
            "host/src/job/script/sources/tests.rs::a_native_clone_has_the_job_s_commit_whatever_its_branch_has_become",
        ]),
    },
    Row {
        number: (2, 13),
        keys: &[
            "TestGetSourcesGit_Fetch",
            "TestGetSourcesGit_Fetch_Unshallow",
        ],
        subject: "sources are fetched into what is there, as deep as asked",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::sources_are_cloned_fetched_again_and_cleaned",
            "host/src/job/script/sources/tests.rs::a_shallow_repository_is_deepened_when_a_job_wants_all_of_it",
        ]),
    },
    Row {
        number: (2, 13),
        keys: &["TestGetSourcesGit_CleanFlags", "TestGetSourcesGit_Options"],
        subject: "flags for clean, fetch, checkout and submodules; other strategies",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::clean_fetch_and_checkout_do_as_the_job_says",
            "host/src/job/script/sources/tests/submodules.rs::submodules_have_their_own_depth_and_flags",
        ]),
    },
    Row {
        number: (2, 13),
        keys: &["TestGetSourcesGit_Submodules"],
        subject: "submodules, of one level and of all",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/submodules.rs::submodules_come_as_deep_as_asked_and_are_clean_again_for_the_next_job",
            "host/src/job/script/sources/tests/submodules.rs::only_the_submodules_that_are_asked_for_come",
        ]),
    },
    Row {
        number: (2, 13),
        keys: &["TestGetSourcesGit_SubmoduleCleanFlagsArePassedAsSeparateArgs"],
        subject: "each flag for clean is a word of its own in submodules, too",
        verdict: Covered(&[
            "host/src/job/script/sources/tests/submodules.rs::flags_for_clean_are_words_of_their_own_in_submodules_too",
        ]),
    },
    Row {
        number: (2, 13),
        keys: &["TestGetSourcesGit_ClearWorktreeOnRetry"],
        subject: "before another try nothing of the last one is left",
        verdict: Covered(&[
            "host/src/job/script/sources/tests.rs::before_another_try_nothing_of_the_last_one_is_left",
            "host/src/job/run/tests.rs::sources_are_tried_again_as_often_as_asked",
        ]),
    },
];
