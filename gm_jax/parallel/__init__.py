"""Many devices and many hosts: meshes, where arrays lie on them, and what processes agree on."""
