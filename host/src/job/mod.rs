//! One job from payload to final state: GitLab's stages, their scripts and variables.
