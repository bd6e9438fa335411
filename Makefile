# Lastro: everything that people and CI do. `make help` explains the targets.
SHELL := bash
.SHELLFLAGS := -efuo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

# What a caller sets on the command line reaches recipes as it was typed, by the environment: without this line make would read
# dollars in it. A recipe writes "$$NAME", or $$ARGS for words (-f above: no word is a pattern of files).
literally = $(eval override export $(1) := $$(value $(1)))
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(call literally,$(name))))

ENV ?= local
export GIVEN_ENV := $(value ENV)
# An environment is data: one tfvars file and one inventory folder.
ENVIRONMENTS := $(strip $(foreach name,$(filter-out common,$(notdir $(patsubst %/,%,$(wildcard inventory/*/)))),\
	$(if $(wildcard terraform/environments/$(name).tfvars),$(name))))
# One of these names, or nothing: environment-exists ends the rest. Two strings are equal if each is in the other.
override ENV := $(strip $(foreach name,$(ENVIRONMENTS),\
	$(if $(and $(findstring <$(name)>,<$(GIVEN_ENV)>),$(findstring <$(GIVEN_ENV)>,<$(name)>)),$(name))))
# One machine stands in for AWS where the inventory says so.
ONE_MACHINE := $(wildcard inventory/$(ENV)/group_vars/all/01_one_machine.yml)

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Container images often set it: each of the thousands of processes that begin would then compile all its modules again.
unexport PYTHONDONTWRITEBYTECODE

# `make bootstrap` is for an account, whatever ENV is.
ifneq ($(and $(ONE_MACHINE),$(filter-out bootstrap bootstrap-destroy,$(or $(MAKECMDGOALS),help))),)
# What reaches somebody's real account must not reach this machine's.
unexport AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
endif

PLAYBOOK := ansible-playbook -i inventory/$(ENV)
# Before Terraform has run there is no inventory but the controller.
LOCAL_PLAYBOOK := ansible-playbook -i inventory/$(ENV)/localhost.yml
# By another name: make runs a recipe that names MAKE also for `make -n`, and with .ONESHELL all of it.
SUBMAKE := $(MAKE)
# A heading. `make up` says at its end where the time went, by the short names.
SAY := scripts/step '$(ENV)'

##@ Work with models and DAGs
.PHONY: publish-dags
publish-dags: running ## Publish dags/ to its bucket; a file that does not import keeps its last good version
	@$(SAY) publish "Publishing the DAGs"
	$(PLAYBOOK) ansible/playbooks/publish_dags.yml

PROMOTE = USER_NAME="$${USER_NAME:-$$(id -un)}" $(PLAYBOOK) ansible/playbooks/promote.yml

.PHONY: promote
promote: running ## Let a version of a model serve, and see that it does: make promote MODEL=wine-classifier VERSION=3 [ALIAS=champion]
	@$(PROMOTE)

.PHONY: rollback
rollback: running ## Go back to the version that served before: make rollback MODEL=wine-classifier [ALIAS=champion]
	@$(PROMOTE) -e promote_back=true

.PHONY: tunnel
tunnel: running ## Open a service on this machine, without any public port: make tunnel SERVICE=airflow ENV=prod [PORT=8080]
	@lastro-ops tunnel $(if $(ONE_MACHINE),--direct) -- $(ENV) "$${SERVICE-}" $${PORT:+"$$PORT"}

.PHONY: logs
logs: running ## Show the journal of a service: make logs SERVICE=airflow [LINES=100]
	@$(PLAYBOOK) ansible/playbooks/logs.yml

.PHONY: status
status: running ## Show what runs, and whether it is ready
	@$(PLAYBOOK) ansible/playbooks/status.yml

.PHONY: prove
prove: running ## Train with Airflow unless a run has succeeded (AGAIN=yes: anyway), and predict over REST
	@$(SAY) "train and predict" "Proving that it works together"
	if [ ! -f dags/wine.py ]; then printf 'dags/wine.py, the example, is not there: nothing to prove. make status shows what runs.\n'; exit 0; fi
	$(PLAYBOOK) ansible/playbooks/prove.yml $(if $(value AGAIN),-e prove_again=true)

##@ Operate an environment
.PHONY: up
up: begin setup $(if $(ONE_MACHINE),aws) apply $(if $(ONE_MACHINE),machines) configure publish-dags prove ## Bring up the whole platform and end with a prediction
	@scripts/step '$(ENV)' --summary

.PHONY: configure
configure: running ## Configure the hosts: site.yml, as often as you like
	@$(SAY) configure "Configuring the hosts of $(ENV)"
	$(PLAYBOOK) site.yml $${ARGS-}

.PHONY: login
login: $(if $(ONE_MACHINE),running,reachable) ## Show the administrator's passwords and the API's key
	@$(PLAYBOOK) ansible/playbooks/login.yml

.PHONY: user
user: running ## Make a login for a colleague in MLflow and Airflow: make user NAME=ana [ROLE=Op]
	@$(PLAYBOOK) ansible/playbooks/user.yml

.PHONY: access
access: setup ## Give this machine access to the hosts of an environment in AWS, for twelve hours
	@$(if $(ONE_MACHINE),printf 'make access is for an environment in AWS; the hosts of $(ENV) are on this machine\n' >&2; exit 2,:)
	scripts/setup aws
	$(LOCAL_PLAYBOOK) ansible/playbooks/access.yml

.PHONY: plan
plan: setup ## Show what Terraform would change, and save it
	@$(SAY) plan "Planning $(ENV)"
	lastro-ops terraform $(ENV) plan

.PHONY: apply-plan
apply-plan: setup ## Apply the plan that `make plan` saved, and write the inventory
	@$(SAY) apply "Applying the saved plan to $(ENV)"
	lastro-ops terraform $(ENV) apply-plan
	$(SUBMAKE) inventory

.PHONY: apply
apply: setup ## Let Terraform make the environment, and write the inventory
	@$(SAY) Terraform "Applying Terraform to $(ENV) (a new environment takes minutes, most of it the database)"
ifneq ($(ONE_MACHINE),)
	# Terraform waits most of the time. Meanwhile the environments of the services are built, unless there are hosts that have them.
	if [ ! -f inventory/$(ENV)/group_vars/all/platform.json ]; then
	  $(LOCAL_PLAYBOOK) ansible/playbooks/local/environments.yml >.lastro/$(ENV)/environments.log 2>&1 & environments=$$!
	  trap 'kill $$environments 2>/dev/null || true' EXIT
	fi
endif
	lastro-ops terraform $(ENV) apply $(if $(ONE_MACHINE)$(value AUTO_APPROVE),--yes)
	if [ -n "$${environments:-}" ]; then
	  printf 'Waiting for the environments of the services (.lastro/$(ENV)/environments.log)\n'
	  wait $$environments || printf 'They could not be built ahead: each host builds its own. Why: .lastro/$(ENV)/environments.log\n'
	fi
	$(SUBMAKE) inventory

.PHONY: inventory
inventory: setup ## Write the inventory and the contract from Terraform's outputs
	@$(LOCAL_PLAYBOOK) ansible/playbooks/inventory.yml

.PHONY: verify
verify: running ## Check the running platform from outside, host by host
	@$(SAY) verify "Verifying $(ENV)"
	LASTRO_ENVIRONMENT=$(ENV) pytest tests/platform/verify -q

.PHONY: drift
drift: running ## Compare what runs with what this checkout says, and change nothing
	@$(SAY) drift "Looking for what has drifted in $(ENV)"
	lastro-ops drift $(ENV)

.PHONY: cost
cost: setup ## Compute the monthly cost of an environment, without an account: make cost ENV=local [PLAN=FILE]
	@lastro-ops cost $(ENV) $${PLAN:+"--plan=$$PLAN"} $${ARGS-}

.PHONY: down
down: one-machine setup ## Stop the machines of this environment; `make up` brings everything back
	@$(LOCAL_PLAYBOOK) ansible/playbooks/local/down.yml

.PHONY: destroy
destroy: setup ## Remove every trace of this environment, data included: make destroy CONFIRM=<ENV>
	@if [ "$${CONFIRM:-}" != "$(ENV)" ]; then printf 'This removes $(ENV) with all its data. Say: make destroy ENV=$(ENV) CONFIRM=$(ENV)\n' >&2; exit 2; fi
ifneq ($(ONE_MACHINE),)
	$(LOCAL_PLAYBOOK) ansible/playbooks/local/destroy.yml
else
	lastro-ops terraform $(ENV) destroy
	rm -f inventory/$(ENV)/hosts.aws_ec2.yml inventory/$(ENV)/group_vars/all/platform.json
endif

##@ Prepare an AWS account
ACCOUNT_PLAYBOOK := ansible-playbook -i inventory/common/localhost.yml

.PHONY: bootstrap
bootstrap: ## Prepare an AWS account, once: make bootstrap [GITHUB_REPOSITORY=owner/name] [REGION=eu-west-1]
	@if [ -z "$${AUTO_APPROVE-}" ] && [ ! -t 0 ]; then printf 'There is no terminal to ask on: say AUTO_APPROVE=yes to apply without a question\n' >&2; exit 2; fi
	scripts/setup
	region=$$(lastro-ops state-region -- "$${REGION-}")
	$(SAY) bootstrap "Preparing the AWS account: the bucket of Terraform's states, and the roles of CI"
	$(ACCOUNT_PLAYBOOK) ansible/playbooks/bootstrap.yml -e bootstrap_region="$$region"
	lastro-ops bootstrap --repository="$${GITHUB_REPOSITORY-}" "$$region" apply $(if $(value AUTO_APPROVE),-auto-approve)

.PHONY: bootstrap-destroy
bootstrap-destroy: ## Remove that again, with every state: make bootstrap-destroy CONFIRM=<account id>
	@scripts/setup
	region=$$(lastro-ops state-region)
	$(ACCOUNT_PLAYBOOK) ansible/playbooks/bootstrap_destroy.yml -e bootstrap_region="$$region"

##@ Develop
.PHONY: setup
setup: environment-exists ## Find or install what is needed, inside .venv and .lastro
	@scripts/setup $(if $(ONE_MACHINE),machine)

.PHONY: test
test: ## Run everything: lint, unit, Terraform, Molecule, the platform end to end; or one STAGE
	@scripts/test $${STAGE-}

.PHONY: test-full
test-full: ## Run everything and the long proofs: before an issue is closed, and every night
	@LASTRO_FULL=yes scripts/test $${STAGE-}

.PHONY: test-platform
test-platform: ## Test the platform end to end; or some tests: make test-platform ONLY=<name> (LASTRO_KEEP=1 leaves it running)
	@scripts/test platform pipeline

.PHONY: molecule
molecule: ## Test the roles on their own hosts; or one ROLE
	@scripts/setup machine
	lastro-ops molecule $${ROLE-}

.PHONY: molecule-roles
molecule-roles: setup ## List the roles that Molecule tests, as the pipeline reads them
	@lastro-ops molecule --list | tee -a "$${GITHUB_OUTPUT:-/dev/null}"

.PHONY: bench
bench: setup ## Measure a running environment: the figures of docs/benchmarks.md
	@LASTRO_ENVIRONMENT=$(ENV) python tests/bench/bench.py

.PHONY: bench-serving
bench-serving: setup ## Compare the speed of the model API with other servers: docs/benchmarks.md [PART=promotion]
	@python tests/bench/serving/bench.py $${PART-}

.PHONY: lock
lock: setup ## Resolve the dependencies of every environment into its hashed lock
	@lastro-ops lock

.PHONY: help
help: ## Explain the targets
	@printf 'usage: make TARGET [ENV=local] [NAME=value]\n'
	awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' Makefile

##@ Parts of the above, and of the pipeline
.PHONY: aws
aws: one-machine setup ## Start the AWS API of this machine
	@$(SAY) "AWS API" "Starting the AWS API of this machine (the first time builds its images: a minute or two)"
	$(LOCAL_PLAYBOOK) ansible/playbooks/local/up.yml

.PHONY: machines
machines: one-machine setup ## Start a container for each instance that Terraform made in the AWS API of this machine
	@$(SAY) machines "Starting the machines"
	$(LOCAL_PLAYBOOK) ansible/playbooks/local/machines.yml

.PHONY: plan-comment
plan-comment: setup ## Show the plans in .lastro/plans on the pull request: one comment, updated in place
	@lastro-ops github comment $(wildcard .lastro/plans/*/summary.md)

.PHONY: drift-issue
drift-issue: setup ## Open, update or close the issue about what has drifted
	@lastro-ops github issue $(ENV) .lastro/$(ENV)/drift.md

# ---- What other targets need first; nobody calls these ----------------------------------------------------------------------
.PHONY: begin
begin: environment-exists
	@scripts/step '$(ENV)' --begin "set-up"

.PHONY: environment-exists
environment-exists:
	@$(if $(ENV),:,printf "There is no environment '%s'. Choose one of: $(ENVIRONMENTS); or add terraform/environments/%s.tfvars and inventory/%s/\n" "$$GIVEN_ENV" "$$GIVEN_ENV" "$$GIVEN_ENV" >&2; exit 2)

.PHONY: one-machine
one-machine: environment-exists
	@$(if $(ONE_MACHINE),:,printf '$(ENV) is in AWS: make $(firstword $(MAKECMDGOALS)) is for an environment on one machine\n' >&2; exit 2)

# An environment that is down, or an AWS API that is: say so, and not what Ansible makes of it.
.PHONY: running
running: setup
ifneq ($(ONE_MACHINE),)
	@if [ "$$(podman container inspect --format '{{.State.Running}}' lastro-$(ENV)-aws 2>/dev/null)" != true ] ||
	  [ ! -f inventory/$(ENV)/hosts.aws_ec2.yml ]; then printf '$(ENV) is not running: make up ENV=$(ENV)\n' >&2; exit 2; fi
	lastro-ops reachable $(ENV)
else
	@$(SUBMAKE) has-inventory access
endif

.PHONY: has-inventory
has-inventory: setup
	@if [ ! -f inventory/$(ENV)/hosts.aws_ec2.yml ]; then printf 'There is no inventory of $(ENV) in this checkout: make inventory ENV=$(ENV), once $(ENV) has been made\n' >&2; exit 2; fi

.PHONY: reachable
reachable: has-inventory
	@lastro-ops reachable $(ENV)
