"""What runs on a compute node around a job: prolog, epilog, and their guards."""
