#!/usr/bin/env bash
# Changes a running stack: change.sh STACK [--template FILE] KEY=VALUE... [--execute]
# Shows the change to each resource, and makes it with --execute. KEY=- prompts for the value without showing it.
# Exits with 2 and changes nothing if the database, bucket, signing user or signing secret would be lost, or might be.
set -euo pipefail
((BASH_VERSINFO[0] >= 4)) || { echo "change.sh needs bash 4 or newer." >&2; exit 1; }

usage="usage: change.sh STACK [--template FILE] KEY=VALUE... [--execute]"
# CloudFormation cannot say whether these properties of a database change in place. RDS always changes them in place.
in_place=" BackupRetentionPeriod DBParameterGroupName MultiAZ "
execute=
template=
change_set=
declare -A given=() used=()

die() {
    echo "change.sh: $1" >&2
    exit "${2:-1}"
}

refuse() {
    die "$1 Nothing was changed." 2
}

cloudformation() {
    aws cloudformation "$@" --output text
}

read_arguments() {
    stack=${1-}
    [[ $stack =~ ^[A-Za-z][A-Za-z0-9-]*$ ]] || die "$usage"
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --execute) execute=yes ;;
        --template)
            template=${2-}
            [ -r "$template" ] || die "The template '$template' cannot be read."
            shift
            ;;
        [A-Za-z]*=*) read_value "${1%%=*}" "${1#*=}" ;;
        *) die "Unknown argument '$1'. $usage" ;;
        esac
        shift
    done
}

read_value() {
    local value=$2
    if [ "$value" = - ]; then
        read -r -s -p "$1: " value
        echo
    fi
    given[$1]=$value
}

# Reads the stack's parameters. Passwords are asterisks.
read_stack() {
    local key value
    while IFS=$'\t' read -r key value; do
        [ -z "$key" ] || used[$key]=$value
    done < <(cloudformation describe-stacks --stack-name "$stack" \
        --query 'Stacks[0].Parameters[].[ParameterKey, ParameterValue]')
    [ ${#used[@]} -gt 0 ] || die "The stack '$stack' does not exist or has no parameters."
}

refuse_traps() {
    local key value
    for key in DBSnapshotIdentifier ZoneA ZoneB; do
        value=${used[$key]-}
        [ "${given[$key]-$value}" = "$value" ] ||
            refuse "$key must stay '$value': any other value would replace the database."
    done
    if [ "${used[DBMultiAZ]-}" = true ] && [ "${given[DBMultiAZ]-true}" = false ]; then
        refuse "DBMultiAZ must stay true: false would replace the database."
    fi
    # With a standby, RDS takes the zone away from the database without replacing it.
    [ "${used[DBMultiAZ]-}" != false ] || [ "${given[DBMultiAZ]-}" != true ] || in_place+="AvailabilityZone "
}

# Pins the image in use unless the operator sets one, because a newer image would replace the instance.
pin_image() {
    local instance image arch newest wanted path=AmiX86
    [ -n "${used[AmiOverride]+x}" ] && [ -z "${given[AmiOverride]+x}" ] || return 0
    instance=$(cloudformation describe-stack-resource --stack-name "$stack" --logical-resource-id RegistryInstance \
        --query StackResourceDetail.PhysicalResourceId)
    read -r image arch < <(aws ec2 describe-instances --instance-ids "$instance" --output text \
        --query 'Reservations[0].Instances[0].[ImageId, Architecture]')
    wanted=$(aws ec2 describe-instance-types --instance-types "${given[InstanceType]-${used[InstanceType]}}" \
        --output text --query 'InstanceTypes[0].ProcessorInfo.SupportedArchitectures')
    if [[ " ${wanted//$'\t'/ } " != *" $arch "* ]]; then
        [ -z "${used[AmiOverride]-}" ] ||
            die "The image ${used[AmiOverride]} does not run on ${given[InstanceType]}. Add AmiOverride= to the command."
        return 0
    fi
    [ -z "${used[AmiOverride]-}" ] || return 0
    [ "$arch" = x86_64 ] || path=AmiArm
    newest=$(aws ssm get-parameter --name "${given[$path]-${used[$path]}}" --query Parameter.Value --output text)
    if [ "$newest" != "$image" ]; then
        echo "There is a newer image, $newest. The instance keeps $image; AmiOverride= takes the newer one."
        given[AmiOverride]=$image
    fi
}

json_text() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# Writes a file, because all users of this machine can read command-line arguments.
write_parameters() {
    local key names separator='[' source=(--stack-name "$stack")
    declare -A known=()
    [ -z "$template" ] || source=(--template-body "file://$template")
    names=$(cloudformation get-template-summary "${source[@]}" --query 'Parameters[].ParameterKey')
    for key in $names; do
        known[$key]=yes
    done
    for key in "${!given[@]}"; do
        [ -n "${known[$key]-}" ] || die "The template has no parameter '$key'."
    done
    for key in "${!known[@]}"; do
        if [ -n "${given[$key]+x}" ]; then
            printf '%s{"ParameterKey": "%s", "ParameterValue": %s}' "$separator" "$key" "$(json_text "${given[$key]}")"
        elif [ -n "${used[$key]+x}" ]; then
            printf '%s{"ParameterKey": "%s", "UsePreviousValue": true}' "$separator" "$key"
        else
            continue
        fi
        separator=$',\n'
    done
    echo ']'
}

clean_up() {
    rm -rf "$work"
    [ -z "$change_set" ] || cloudformation delete-change-set --change-set-name "$change_set" >/dev/null || true
}

make_change_set() {
    local body=(--use-previous-template) reason
    [ -z "$template" ] || body=(--template-body "file://$template")
    write_parameters >"$work/parameters.json"
    change_set=$(cloudformation create-change-set --stack-name "$stack" --change-set-name "change-$(date +%s)-$$" \
        "${body[@]}" --parameters "file://$work/parameters.json" --capabilities CAPABILITY_NAMED_IAM --query Id)
    if ! cloudformation wait change-set-create-complete --change-set-name "$change_set" 2>"$work/wait"; then
        reason=$(cloudformation describe-change-set --change-set-name "$change_set" --query StatusReason)
        case $reason in
        *"didn't contain changes"* | *"No updates are to be performed"*)
            echo "Nothing to change."
            exit 0
            ;;
        *) die "CloudFormation rejects the change: $reason" ;;
        esac
    fi
}

show_changes() {
    cloudformation describe-change-set --change-set-name "$change_set" --query "Changes[].ResourceChange.[
        LogicalResourceId, Action, Replacement || 'False',
        join(', ', Details[].CausingEntity || \`[]\`) || join(', ', Scope || \`[]\`),
        join(' ', Details[?Target.RequiresRecreation != 'Never'].Target.Name || \`[]\`)]" >"$work/changes"
    awk -F '\t' 'BEGIN { is["True"] = "replaced"; is["Conditional"] = "perhaps replaced"; is["False"] = "in place" }
        { printf "%-22s %-8s %-17s %s\n", $1, $2, $2 == "Modify" ? is[$3] : "", $4 }' "$work/changes"
}

refuse_losses() {
    local change resource action replacement _ properties
    while IFS= read -r change; do
        # Tabs are made visible, because `read` takes several of them for one.
        IFS=$'\x1f' read -r resource action replacement _ properties <<<"${change//$'\t'/$'\x1f'}"
        case $resource in Database | Bucket | RegistryUser | SigningSecret) ;; *) continue ;; esac
        if [ "$action" = Remove ] || [ "$replacement" = True ]; then
            refuse "$resource would be lost: it would be removed or replaced."
        elif [ "$replacement" = Conditional ] && ! change_in_place "$resource" "$properties"; then
            refuse "$resource might be replaced, because of ${properties:-an unnamed property}."
        fi
    done <"$work/changes"
}

# Tells whether all properties that might replace the resource are known to change in place.
change_in_place() {
    local property
    [ "$1" = Database ] && [ -n "$2" ] || return 1
    for property in $2; do
        [[ $in_place == *" $property "* ]] || return 1
    done
}

execute_change_set() {
    local id=$change_set
    change_set=  # because an executed change set is not deleted
    cloudformation execute-change-set --change-set-name "$id"
    cloudformation wait stack-update-complete --stack-name "$stack" ||
        die "The update failed and was rolled back. See: aws cloudformation describe-stack-events --stack-name $stack"
    echo "Done."
}

read_arguments "$@"
work=$(mktemp -d)
trap clean_up EXIT
read_stack
refuse_traps
pin_image
make_change_set
show_changes
refuse_losses
if [ -n "$execute" ]; then
    execute_change_set
else
    echo "Nothing was changed. Add --execute to make the change."
fi
