//! What jobs run in: images, services, volumes and networks.

use super::Row;
use super::Verdict::{Covered, Elsewhere};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: (1, 10),
        keys: &["TestDockerCommandWithAllowedImagesRun/list"],
        subject: "allowed_images lets in what it names, and the default image",
        verdict: Covered(&[
            "host/src/docker/image/allowed.rs::the_configured_image_is_always_allowed",
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
        ]),
    },
    Row {
        number: (1, 10),
        keys: &["TestDockerCommandWithAllowedImagesRun/expanded"],
        subject: "an image that a variable names is held against the list",
        verdict: Covered(&[
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
        ]),
    },
    Row {
        number: (1, 11),
        keys: &["TestDockerCommandDisableEntrypointOverwrite"],
        subject: "disable_entrypoint_overwrite keeps the images' own, and the log says so",
        verdict: Covered(&[
            "host/src/job/image/tests.rs::an_entrypoint_that_is_not_taken_is_a_warning",
            "host/src/job/services/tests.rs::an_entrypoint_may_be_kept_by_the_operator",
        ]),
    },
    Row {
        number: (1, 12),
        keys: &[
            "TestDockerCommandMissingImage",
            "TestDockerCommandMissingTag",
        ],
        subject: "an image that is not there fails the job by name",
        verdict: Covered(&[
            "tests/tests/stories/bad_input.rs::an_image_that_does_not_exist_is_a_configuration_error",
            "host/src/docker/image/failure.rs::a_pull_error_s_words_give_its_class_reason_and_tries",
        ]),
    },
    Row {
        number: (1, 12),
        keys: &["TestDockerCommandMissingServiceImage"],
        subject: "so does a service's image",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::a_service_that_does_not_answer_is_told_and_one_that_cannot_start_fails_the_job",
        ]),
    },
    Row {
        number: (1, 13),
        keys: &["TestDockerCommandPullingImageNoHost"],
        subject: "a registry that cannot be reached is a failure of an external dependency",
        verdict: Covered(&[
            "host/src/docker/image/failure.rs::a_pull_error_s_words_give_its_class_reason_and_tries",
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
        ]),
    },
    Row {
        number: (1, 18),
        keys: &["TestDockerCommandTwoServicesFromOneImage"],
        subject: "two services of one image by two aliases, with and without a network",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
        ]),
    },
    Row {
        number: (1, 19),
        keys: &["TestDockerCommandServiceNameEmpty"],
        subject: "a service without a name is the configuration's fault",
        verdict: Covered(&[
            "host/src/job/services/tests.rs::what_cannot_be_started_fails_the_job_before_an_instance_is_asked_for",
            "host/src/job/run/tests.rs::what_cannot_be_honoured_fails_before_an_instance_is_asked_for",
        ]),
    },
    Row {
        number: (1, 21),
        keys: &["TestDockerPrivilegedServiceAccessingBuildsFolder/builds"],
        subject: "a service shares /builds with the job",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
            "host/src/docker/container/host/tests.rs::all_containers_mount_the_same",
        ]),
    },
    Row {
        number: (1, 21),
        keys: &["TestDockerPrivilegedServiceAccessingBuildsFolder/dind"],
        subject: "a Docker daemon as a privileged service",
        verdict: Covered(&[
            "tests/tests/stories/dind.rs::jobs_build_push_and_run_with_dockers_beside_them_and_with_the_instances_own",
        ]),
    },
    Row {
        number: (1, 22),
        keys: &["TestDockerExtendedConfigurationFromJob/services"],
        subject: "entrypoint, command and aliases of services, from the job",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
            "host/src/job/services/tests.rs::the_configuration_s_come_first_and_every_part_arrives",
        ]),
    },
    Row {
        number: (1, 22),
        keys: &["TestDockerExtendedConfigurationFromJob/image"],
        subject: "an entrypoint of the image, from the job",
        verdict: Covered(&[
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
        ]),
    },
    Row {
        number: (1, 23),
        keys: &["TestCacheInContainer/volume"],
        subject: "/cache outlives its job, unless disable_cache says otherwise",
        verdict: Covered(&[
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
            "host/src/docker/volume/tests.rs::caches_are_volumes_or_folders_or_end_with_the_job",
        ]),
    },
    Row {
        number: (1, 23),
        keys: &["TestCacheInContainer/keys"],
        subject: "keys and policies of caches",
        verdict: Elsewhere("caches of jobs come later; a job that has one is warned"),
    },
    Row {
        number: (1, 24),
        keys: &[
            "TestDockerImageNameFromVariable",
            "TestDockerServiceNameFromVariable",
        ],
        subject: "variables name images and services",
        verdict: Covered(&[
            "host/src/job/image/tests.rs::the_job_s_image_is_expanded_twice_and_the_default_once",
            "host/src/job/services/tests.rs::the_configuration_s_come_first_and_every_part_arrives",
        ]),
    },
    Row {
        number: (1, 25),
        keys: &["TestDockerServiceHealthcheck/answers"],
        subject: "a service that answers, at HEALTHCHECK_TCP_PORT or where it is exposed",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
            "host/src/docker/service/address.rs::ports_are_the_one_named_or_the_first_twenty_exposed",
            "host/helper/tests/health.rs::it_ends_once_one_of_the_addresses_takes_a_connection",
        ]),
    },
    Row {
        number: (1, 25),
        keys: &["TestDockerServiceHealthcheck/fails"],
        subject: "one that does not is a warning with both logs",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::a_service_that_does_not_answer_is_told_and_one_that_cannot_start_fails_the_job",
            "host/src/docker/service/health.rs::a_service_that_does_not_answer_is_told_with_both_logs",
        ]),
    },
    Row {
        number: (1, 25),
        keys: &["TestDockerServiceHealthcheck/fails in a network of the job"],
        subject: "the same with FF_NETWORK_PER_BUILD",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::a_service_that_does_not_answer_is_told_and_one_that_cannot_start_fails_the_job",
        ]),
    },
    Row {
        number: (1, 26),
        keys: &["TestDockerServiceAliases/names"],
        subject: "both derived names and the job's own",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
            "host/src/job/services/name.rs::a_service_has_a_name_for_each_way_to_write_a_slash",
        ]),
    },
    Row {
        number: (1, 26),
        keys: &["TestDockerServiceAliases/container"],
        subject: "the first 12 digits of the container's id are a name, too",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
        ]),
    },
    Row {
        number: (1, 27),
        keys: &["TestDockerServiceHealthcheckOverflow"],
        subject: "64 KiB of a service's log are shown at most",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::a_service_that_does_not_answer_is_told_and_one_that_cannot_start_fails_the_job",
        ]),
    },
    Row {
        number: (1, 28),
        keys: &["TestDockerHandlesAliasDuplicates"],
        subject: "an alias that stands twice is one",
        verdict: Covered(&[
            "host/src/job/services/tests.rs::a_name_is_one_service_s_and_a_service_without_one_is_told",
        ]),
    },
    Row {
        number: (1, 29),
        keys: &["TestDocker1_8Compatibility", "TestDocker1_13Compatibility"],
        subject: "daemons of old, from 1.8 to 1.13",
        verdict: Elsewhere("Docker 20.10 is the oldest that is promised"),
    },
    Row {
        number: (1, 31),
        keys: &["TestDockerCommandWithHelperImageConfig"],
        subject: "helper_image, with variables, and what the log says of it",
        verdict: Covered(&[
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
            "host/src/job/image/tests.rs::policies_are_the_job_s_or_the_operator_s_and_the_helper_s_are_the_operator_s",
        ]),
    },
    Row {
        number: (1, 35),
        keys: &["TestDockerCommand_WriteToVolumeNonRootImage"],
        subject: "volumes are open to any user",
        verdict: Covered(&[
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
            "host/src/docker/container/archive.rs::the_helper_may_be_run_and_mount_points_written_to",
            "host/helper/tests/helper.rs::mount_points_are_open_to_all_before_the_first_stage_and_a_missing_one_ends_nothing",
        ]),
    },
    Row {
        number: (1, 39),
        keys: &["TestDockerCommandServiceVariables"],
        subject: "what a service sees of variables, and its own expanded",
        verdict: Covered(&[
            "host/src/job/services/tests.rs::a_service_sees_what_is_public_and_what_is_its_own",
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
        ]),
    },
    Row {
        number: (1, 40),
        keys: &["TestDockerCommandConflictingPullPolicies"],
        subject: "policies of job and operator against the allowed ones",
        verdict: Covered(&[
            "host/src/config/pull_policy.rs::what_is_allowed_is_kept_in_its_order",
            "host/src/config/pull_policy.rs::nothing_left_is_said_in_gitlab_runner_s_words",
            "host/src/job/image/tests.rs::policies_are_the_job_s_or_the_operator_s_and_the_helper_s_are_the_operator_s",
        ]),
    },
    Row {
        number: (1, 41),
        keys: &["Test_CaptureServiceLogs"],
        subject: "CI_DEBUG_SERVICES true, false, absent and nonsense",
        verdict: Covered(&[
            "tests/tests/stories/services.rs::what_services_print_is_in_the_log_where_the_job_asks_for_it",
            "host/src/job/services/tests.rs::what_services_print_is_shown_only_where_the_operator_lets_it",
            "host/src/docker/service/log.rs::a_line_stands_behind_its_service_s_names",
        ]),
    },
    Row {
        number: (1, 42),
        keys: &["Test_ExpandingVolumes"],
        subject: "variables in where a volume is mounted",
        verdict: Covered(&[
            "host/src/job/plan/tests.rs::what_the_operator_wrote_may_name_variables",
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (1, 43),
        keys: &["Test_ContainerOptionsExpansion/names"],
        subject: "variables in names and aliases of image and services",
        verdict: Covered(&[
            "host/src/job/image/tests.rs::the_job_s_image_is_expanded_twice_and_the_default_once",
            "host/src/job/services/tests.rs::the_configuration_s_come_first_and_every_part_arrives",
        ]),
    },
    Row {
        number: (1, 43),
        keys: &["Test_ContainerOptionsExpansion/log"],
        subject: "the log shows what they came to",
        verdict: Covered(&[
            "tests/tests/stories/images.rs::policies_and_allow_lists_say_which_image_a_job_gets",
            "tests/tests/stories/services.rs::services_are_found_by_every_name_with_a_network_of_the_job_s_own_and_with_links",
        ]),
    },
    Row {
        number: (1, 44),
        keys: &["TestDockerCommandWithRunnerServiceEnvironmentVariables"],
        subject: "environment of the operator's services",
        verdict: Covered(&[
            "host/src/job/services/tests.rs::the_configuration_s_come_first_and_every_part_arrives",
            "host/src/config/check/services/tests.rs::every_key_of_a_service_is_read",
        ]),
    },
    Row {
        number: (1, 48),
        keys: &["TestPidMode"],
        subject: "pid_mode is the build container's",
        verdict: Covered(&[
            "host/src/docker/container/tests.rs::the_pid_namespace_is_the_build_container_s",
        ]),
    },
    Row {
        number: (1, 49),
        keys: &["Test_ServiceLabels"],
        subject: "labels of services",
        verdict: Covered(&[
            "host/src/docker/service/spec/tests.rs::a_service_has_its_own_parts_the_job_s_volumes_and_none_of_its_rights",
            "tests/tests/stories/services.rs::a_manager_that_was_killed_leaves_no_service_and_no_network_behind",
        ]),
    },
    Row {
        number: (1, 50),
        keys: &["Test_ServiceVolumeMounts"],
        subject: "services_devices by a pattern of images",
        verdict: Covered(&[
            "host/src/docker/container/host/tests.rs::each_key_has_its_effect_on_its_containers_and_on_no_other",
        ]),
    },
    Row {
        number: (1, 51),
        keys: &["TestDockerCommandWithPlatform/pull"],
        subject: "an image is had for the platform that the job names",
        verdict: Covered(&[
            "host/src/docker/image/tests.rs::a_local_image_of_another_platform_is_not_the_one_that_is_wanted",
            "host/src/job/image/tests.rs::a_platform_is_told_as_the_daemon_reads_it",
            "host/src/docker/platform.rs::an_image_of_another_platform_is_another_image",
        ]),
    },
    Row {
        number: (1, 51),
        keys: &["TestDockerCommandWithPlatform/run"],
        subject: "a container of an image for a foreign platform runs",
        verdict: Covered(&[
            "tests/tests/stories/images.rs::a_job_gets_the_platform_it_names_from_a_registry_that_comes_back_between_two_tries",
        ]),
    },
    Row {
        number: (1, 52),
        keys: &["TestDockerCommandWithUser"],
        subject: "the user that the job names",
        verdict: Covered(&[
            "tests/tests/stories/scripts.rs::scripts_find_their_variables_their_files_and_who_they_are",
            "host/src/docker/user.rs::a_list_or_a_configured_user_leaves_no_other",
            "host/src/docker/container/tests.rs::the_user_is_the_build_container_s_alone",
        ]),
    },
    Row {
        number: (1, 54),
        keys: &["TestDockerCommand_MacAddressConfig/given"],
        subject: "mac_address in the default network and in one by name",
        verdict: Covered(&[
            "host/src/docker/container/tests.rs::a_mac_address_belongs_to_the_endpoint_of_the_network",
            "host/src/docker/network.rs::a_mac_address_follows_its_container_into_the_network",
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (1, 54),
        keys: &["TestDockerCommand_MacAddressConfig/refused"],
        subject: "mac_address where a container has no network, or another's: the job runs without it",
        verdict: Covered(&[
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
        ]),
    },
    Row {
        number: (1, 55),
        keys: &["TestDockerCommand_DNSConfig"],
        subject: "dns and dns_search",
        verdict: Covered(&[
            "tests/tests/stories/docker_keys.rs::the_keys_are_seen_on_build_and_helper_and_a_cache_outlives_its_job",
            "host/src/docker/container/host/tests.rs::each_key_has_its_effect_on_its_containers_and_on_no_other",
        ]),
    },
    Row {
        number: (1, 56),
        keys: &["TestDockerServiceManyExposedPorts"],
        subject: "of many exposed ports 20 are dialled",
        verdict: Covered(&[
            "host/src/docker/service/address.rs::ports_are_the_one_named_or_the_first_twenty_exposed",
        ]),
    },
    Row {
        number: (1, 57),
        keys: &["Test_CacheVolumeProtected"],
        subject: "volumes of protected branches stand apart and are labelled",
        verdict: Covered(&[
            "host/src/job/plan/tests.rs::a_protected_branch_is_known_by_what_a_job_cannot_write",
            "host/src/docker/volume/tests.rs::jobs_of_protected_branches_have_volumes_of_their_own",
            "host/src/docker/volume/tests.rs::labels_say_what_a_volume_is_and_whose",
        ]),
    },
];
